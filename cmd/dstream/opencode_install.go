package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/agents/opencode/plugin"
	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

// configName is the plugin's configuration, beside the directory that it is in.
const configName = "durable-stream.json"

// installed is what install did, or would.
type installed struct {
	Plugin  string   `json:"plugin"`
	Config  string   `json:"config,omitempty"` // empty: none is needed
	Changed []string `json:"changed"`          // files that were written
	Kept    []string `json:"kept,omitempty"`   // copies of files that were replaced by --force
}

func opencodeInstall(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the plugin into OpenCode's directory of this project",
		Long: `Puts the plugin, one file, into .opencode/plugin/, where OpenCode loads it when it starts:
from then on all that OpenCode does in this project is in the log. --dir is the directory
.opencode of another project.

Where dstream is not on the PATH, or --server, --nkey or the flags of TLS are given, they are
written to .opencode/durable-stream.json, which the plugin reads; it is for this machine. A file that somebody
changed is left as it is, and the difference is told; --force replaces it and keeps a copy.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("dir") && os.Getenv("DSTREAM_DIR") == "" {
				o.dir = place.Plugin()
			}
			done, err := install(o, force)
			if err != nil {
				return err
			}
			return show(cmd, o, done, func(w io.Writer) error { return printInstalled(w, o, done) })
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace files that were changed, and keep a copy of each")
	return cmd
}

// file is one that install writes.
type file struct {
	path    string
	old     []byte // nil: it is not there
	content []byte
	differs []string // in words: what of it is not ours to change
}

func (f file) same() bool { return f.old != nil && bytes.Equal(f.old, f.content) }

func install(o *options, force bool) (installed, error) {
	if filepath.Base(paths.Absolute(o.dir)) != ".opencode" {
		return installed{}, usage(fmt.Errorf("--dir %s: OpenCode loads plugins from a directory .opencode of the project: name that one", o.dir))
	}
	project := filepath.Dir(paths.Absolute(o.dir))
	if repo, ok := paths.FindRepository(project); ok && repo.Root != project {
		root := filepath.Join(repo.Root, ".opencode")
		return installed{}, usage(fmt.Errorf("the project begins at %s, where OpenCode's log is: install the plugin there, with --dir %s", filepath.Dir(root), root))
	}
	if !paths.Exists(filepath.Dir(paths.Absolute(o.dir))) {
		return installed{}, usage(paths.MakeDir(paths.Absolute(o.dir)))
	}
	if err := place.AsOwner(o.dir); err != nil {
		return installed{}, err
	}
	if err := paths.NoLogLink(paths.Absolute(o.dir)); err != nil {
		return installed{}, err
	}
	done := installed{Plugin: filepath.Join(o.dir, "plugin", plugin.Name), Changed: []string{}}
	js, err := pluginFile(done.Plugin)
	if err != nil {
		return done, err
	}
	files := []file{js}
	if other := filepath.Join(o.dir, "plugins", plugin.Name); paths.Exists(other) {
		return done, fmt.Errorf("the plugin is in %s already, and OpenCode would load both: remove that one", other)
	}
	wants, err := o.pluginConfig()
	if err != nil {
		return done, err
	}
	if len(wants) > 0 || paths.Exists(filepath.Join(o.dir, configName)) {
		done.Config = filepath.Join(o.dir, configName)
		config, err := configFile(done.Config, wants)
		if err != nil {
			return done, err
		}
		files = append(files, config)
	}
	var differ []string
	for _, f := range files {
		for _, d := range f.differs {
			differ = append(differ, f.path+": "+d)
		}
	}
	if len(differ) > 0 && !force {
		return done, fmt.Errorf("nothing was installed, since this is not ours to change:\n  %s\nChange it by hand, or replace it with --force, which keeps a copy", strings.Join(differ, "\n  "))
	}
	for _, f := range files {
		if f.same() {
			continue
		}
		if len(f.differs) > 0 {
			kept, err := keepCopy(f.path, f.old)
			if err != nil {
				return done, err
			}
			done.Kept = append(done.Kept, kept)
		}
		if err := write(f.path, f.content); err != nil {
			return done, err
		}
		done.Changed = append(done.Changed, f.path)
	}
	return done, nil
}

// keepCopy puts what a file holds beside it: into NAME.before, or the first of NAME.before.2,
// NAME.before.3, … that is free. No copy is written over.
func keepCopy(path string, content []byte) (string, error) {
	kept := path + ".before"
	for n := 2; paths.Exists(kept); n++ {
		if was, err := os.ReadFile(kept); err == nil && bytes.Equal(was, content) {
			return kept, nil
		}
		kept = fmt.Sprintf("%s.before.%d", path, n)
	}
	return kept, write(kept, content)
}

// head is the first line of an installed plugin. It names the hash of the rest, so that
// one that nobody changed can be told, and replaced by the next version.
func head(body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("// durable-stream %s, by 'dstream opencode install'; sha256 of what follows: %s\n", durablestream.Version, hex.EncodeToString(sum[:]))
}

func pluginFile(path string) (file, error) {
	f := file{path: path, content: append([]byte(head(plugin.Source)), plugin.Source...)}
	var err error
	if f.old, err = readIfThere(path); err != nil || f.old == nil || f.same() {
		return f, err
	}
	first, body, _ := bytes.Cut(f.old, []byte("\n"))
	sum := sha256.Sum256(body)
	if bytes.HasPrefix(first, []byte("// durable-stream ")) && bytes.HasSuffix(first, []byte(" "+hex.EncodeToString(sum[:]))) {
		return f, nil // an earlier version, as it was installed
	}
	f.differs = []string{difference(f.old, f.content)}
	return f, nil
}

// difference says where two files begin to differ.
func difference(old, content []byte) string {
	was, is := strings.Split(string(old), "\n"), strings.Split(string(content), "\n")
	if strings.HasPrefix(was[0], "// durable-stream ") {
		was[0] = is[0] // another version's
	}
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			return fmt.Sprintf("line %d is %q, and ours is %q (%d lines, ours has %d)", i+1, console.OneLine(was[i], 80), console.OneLine(is[i], 80), len(was), len(is))
		}
	}
	return fmt.Sprintf("it has %d lines, and ours has %d", len(was), len(is))
}

// pluginConfig is what the plugin has to be told.
func (o *options) pluginConfig() (map[string]any, error) {
	wants := map[string]any{}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where this program is, is not known: %w", err)
	}
	if onPath, err := exec.LookPath("dstream"); err != nil || !sameFile(onPath, exe) {
		wants["bin"] = exe
	}
	if len(o.servers) > 0 {
		wants["servers"] = o.servers
	}
	if o.nkey != "" {
		wants["nkey"] = paths.Absolute(o.nkey)
	}
	var args []string
	for _, f := range []struct{ flag, path string }{{"--tls-ca", o.tls.CA}, {"--tls-cert", o.tls.Cert}, {"--tls-key", o.tls.Key}} {
		if f.path != "" {
			args = append(args, f.flag, paths.Absolute(f.path))
		}
	}
	if args != nil {
		wants["args"] = args
	}
	return wants, nil
}

// configFile adds what the plugin has to be told to what its configuration holds.
func configFile(path string, wants map[string]any) (file, error) {
	f := file{path: path}
	var err error
	if f.old, err = readIfThere(path); err != nil {
		return f, err
	}
	has := map[string]json.RawMessage{}
	if f.old != nil {
		err := json.Unmarshal(f.old, &has)
		if err == nil && has == nil {
			err = errors.New("it is null")
		}
		if err != nil {
			f.differs = append(f.differs, fmt.Sprintf("it must be a JSON object (%v), and would be replaced as a whole", err))
			has = map[string]json.RawMessage{}
		}
	}
	broken := f.differs != nil
	changed := f.old == nil || broken
	for _, key := range []string{"bin", "servers", "nkey", "args"} {
		want, ok := wants[key]
		if !ok {
			continue
		}
		b, err := json.Marshal(want)
		if err != nil {
			return f, err
		}
		was, there := has[key]
		if there && sameJSON(was, b) {
			continue
		}
		changed = true
		switch {
		case there:
			f.differs = append(f.differs, fmt.Sprintf("%q is %s, and would be %s", key, was, b))
		case f.old != nil && !broken:
			f.differs = append(f.differs, fmt.Sprintf("%q is missing, and would be %s", key, b))
		}
		has[key] = b
	}
	if !changed {
		f.content = f.old
		return f, nil
	}
	f.content, err = json.MarshalIndent(has, "", "  ")
	f.content = append(f.content, '\n')
	return f, err
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func readIfThere(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// write replaces a file in one step: OpenCode must never load half of it.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // it is gone when all is well
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

func printInstalled(w io.Writer, o *options, done installed) error {
	if len(done.Changed) == 0 {
		fmt.Fprintf(w, "The plugin is in %s already, and up to date.\n", done.Plugin)
		return nil
	}
	for _, path := range done.Changed {
		what := "the plugin, " + durablestream.Version
		if path == done.Config {
			what = "where the plugin finds dstream, and what it is to use; it is for this machine"
		}
		fmt.Fprintf(w, "Wrote %s: %s\n", path, what)
	}
	for _, path := range done.Kept {
		fmt.Fprintf(w, "Kept  %s: as it was\n", path)
	}
	fmt.Fprintf(w, "\nNext: start OpenCode in this project; one that runs loads the plugin when it is started again.\n")
	fmt.Fprintf(w, "  %s tail              shows what it does, live\n", self())
	fmt.Fprintf(w, "  %s checkpoint list   shows what it asks; 'checkpoint approve' answers\n", self())
	if o.nkey == "" && len(o.servers) > 0 {
		fmt.Fprintf(w, "Where the server wants keys, install again with --nkey and --force.\n")
	}
	return nil
}
