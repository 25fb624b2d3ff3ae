package plugin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"durablestream/internal/console"
	"durablestream/internal/paths"
)

// Installed is what install did, or would.
type Installed struct {
	Plugin  string   `json:"plugin"`
	Config  string   `json:"config,omitempty"` // empty: none is needed
	Changed []string `json:"changed"`          // files that were written
	Kept    []string `json:"kept,omitempty"`   // copies of files that were replaced by --force
}

// file is one that install writes.
type file struct {
	path    string
	old     []byte // nil: it is not there
	content []byte
	differs []string // in words: what of it is not ours to change
}

// configName is the plugin's configuration, beside the directory that it is in.
const configName = "durable-stream.json"

func (f file) same() bool { return f.old != nil && bytes.Equal(f.old, f.content) }

// Config says where the plugin goes, and what it is to use.
type Config struct {
	Dir     string // .opencode of the project
	Version string // of the program that installs it
	Servers []string
	NKey    string
	CA      string // these are files of TLS
	Cert    string
	Key     string
	Force   bool // replaces what somebody changed, and keeps a copy
}

// Install puts the plugin into Config.Dir, and what it has to be told beside it.
func Install(cfg Config) (Installed, error) {
	done := Installed{Plugin: filepath.Join(cfg.Dir, "plugin", Name), Changed: []string{}}
	js, err := cfg.pluginFile(done.Plugin)
	if err != nil {
		return done, err
	}
	files := []file{js}
	if other := filepath.Join(cfg.Dir, "plugins", Name); paths.Exists(other) {
		return done, fmt.Errorf("the plugin is in %s already, and OpenCode would load both: remove that one", other)
	}
	wants, err := cfg.wants()
	if err != nil {
		return done, err
	}
	if len(wants) > 0 || paths.Exists(filepath.Join(cfg.Dir, configName)) {
		done.Config = filepath.Join(cfg.Dir, configName)
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
	if len(differ) > 0 && !cfg.Force {
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
func head(version string, body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("// durable-stream %s, by 'dstream opencode install'; sha256 of what follows: %s\n", version, hex.EncodeToString(sum[:]))
}

func (cfg Config) pluginFile(path string) (file, error) {
	f := file{path: path, content: append([]byte(head(cfg.Version, Source)), Source...)}
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

// wants is what the plugin has to be told.
func (cfg Config) wants() (map[string]any, error) {
	wants := map[string]any{}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where this program is, is not known: %w", err)
	}
	if onPath, err := exec.LookPath("dstream"); err != nil || !sameFile(onPath, exe) {
		wants["bin"] = exe
	}
	if len(cfg.Servers) > 0 {
		wants["servers"] = cfg.Servers
	}
	if cfg.NKey != "" {
		wants["nkey"] = paths.Absolute(cfg.NKey)
	}
	var args []string
	for _, f := range []struct{ flag, path string }{{"--tls-ca", cfg.CA}, {"--tls-cert", cfg.Cert}, {"--tls-key", cfg.Key}} {
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
