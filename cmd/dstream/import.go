package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/internal/legacy"
)

// importAnswer is what `import --json` prints.
type importAnswer struct {
	Files   []string `json:"files"`
	Read    int      `json:"read"`    // whole lines
	Stored  int      `json:"stored"`  // new in the log
	Present int      `json:"present"` // in the log already
	Mended  int      `json:"mended"`  // lines where a missing field was filled in
	Damaged []string `json:"damaged"` // lines that were not taken, and why
	Kept    string   `json:"kept,omitempty"`
}

func importCommand(o *options) *cobra.Command {
	var adopt, expire bool
	cmd := &cobra.Command{
		Use:   "import FILE… | import DIR | import --adopt [FILE] | import --expire",
		Short: "Bring in files of the original TypeScript module, or another log",
		Long: `Reads files of the original module, each with its rotated siblings
(durable_stream_2026-01-02.jsonl, durable_stream_1735689600000.jsonl), and stores
what the log does not have yet, with ids and timestamps kept, marked as imported.
It may be repeated at any time. Damaged lines are told with their numbers, the good
ones are imported, and the exit status is then 1.

What was pending in the files stays pending, however old, until somebody decides it
or --expire ends what is overdue.

DIR is the directory of another log, such as the one that a git work tree has for
itself. All its events are stored with ids and timestamps kept; what is open there is
open here, and what is decided stays decided. Nobody may have that log meanwhile. It is
then kept in DIR under another name, and its work tree uses the shared log from then on.

--adopt is for a file of the original that lies where the mirror goes: it is
imported and then kept under another name.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if adopt && len(args) > 1 || !adopt && !expire && len(args) == 0 {
				return usage(errors.New("import takes one FILE or more, or --adopt and at most one"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if adopt && len(args) == 0 {
				args = []string{durablestream.MirrorPath(o.dir)}
			}
			if len(args) == 1 && !adopt && isDirectory(args[0]) {
				if err := importLog(cmd, o, args[0]); err != nil || !expire {
					return err
				}
			} else if len(args) > 0 {
				if err := importFiles(cmd, o, args, adopt); err != nil || !expire {
					return err
				}
			}
			expiring := func(cfg *durablestream.Config) { cfg.NoCreate = true }
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				checkpoints, intents, err := d.ExpireImported(ctx)
				fmt.Fprintf(cmd.ErrOrStderr(), "%s expired, %s failed with reason timeout\n", console.Count(checkpoints, "imported checkpoint"), console.Count(intents, "imported intent"))
				return err
			}, expiring)
		},
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "import the file that lies where the mirror goes, then keep it under another name")
	cmd.Flags().BoolVar(&expire, "expire", false, "end what was imported and is overdue: checkpoints expire, intents fail")
	return cmd
}

func importFiles(cmd *cobra.Command, o *options, paths []string, adopt bool) error {
	a := importAnswer{Damaged: []string{}}
	if adopt && !samePath(paths[0], durablestream.MirrorPath(o.dir)) {
		return usage(fmt.Errorf("--adopt is for the file that lies where the mirror goes, %s; to import %s, leave --adopt out", durablestream.MirrorPath(o.dir), paths[0]))
	}
	if adopt {
		var err error
		if a.Kept, err = adopted(paths[0]); err != nil {
			return err
		}
		if a.Kept != "" {
			paths = []string{a.Kept}
		}
	}
	events, where, err := a.read(paths)
	if adopt && errors.Is(err, legacy.ErrMirrorLine) {
		return fmt.Errorf("%s is the mirror of this log: if a file of the original lay there, it was adopted already", paths[0])
	}
	if err != nil {
		return err
	}
	if err := a.store(cmd, o, events, where, adopt); err != nil {
		return err
	}
	if adopt {
		if a.Kept == "" {
			if a.Kept, err = keep(paths[0]); err != nil {
				return err
			}
		}
		// Open once more as a host does, so that the mirror is written now.
		d, err := o.open(cmd)
		if err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	return a.tell(cmd, o)
}

// read reads all lines of all files; where[i] says where event i stood.
func (a *importAnswer) read(paths []string) (events []event.Event, where []string, err error) {
	for _, path := range paths {
		files, err := legacy.Files(path)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range files {
			a.Files = append(a.Files, name)
			if err := a.readFile(name, func(e event.Event, at string) {
				events, where = append(events, e), append(where, at)
			}); err != nil {
				return nil, nil, err
			}
		}
	}
	return events, where, nil
}

func (a *importAnswer) readFile(name string, add func(event.Event, string)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for line, err := range legacy.Read(f, name) {
		switch {
		case err != nil:
			return err
		case errors.Is(line.Err, legacy.ErrMirrorLine):
			return fmt.Errorf("%s line %d: %w", name, line.Number, legacy.ErrMirrorLine)
		case line.Err != nil:
			a.Damaged = append(a.Damaged, line.Err.Error())
			continue
		}
		if len(line.Fixed) > 0 {
			a.Mended++
		}
		a.Read++
		add(line.Event, fmt.Sprintf("%s line %d", name, line.Number))
	}
	return nil
}

func (a *importAnswer) store(cmd *cobra.Command, o *options, events []event.Event, where []string, adopt bool) (err error) {
	d, err := o.open(cmd, func(cfg *durablestream.Config) { cfg.NoMirror, cfg.NoSweeper, cfg.NoTakeOver = adopt, adopt, adopt })
	if err != nil {
		return err
	}
	defer closing(d, &err)
	bar := console.NewBar(cmd.ErrOrStderr(), "importing")
	report, err := d.Import(cmd.Context(), "original", events, func(done int) { bar.Set(uint64(done), uint64(len(events))) })
	bar.Finish()
	a.Stored, a.Present = report.Stored, report.Present
	for _, r := range report.Refused {
		a.Damaged = append(a.Damaged, where[r.Index]+": "+r.Err.Error())
	}
	return err
}

func (a *importAnswer) tell(cmd *cobra.Command, o *options) error {
	for _, d := range a.Damaged {
		fmt.Fprintf(cmd.ErrOrStderr(), "dstream: not imported: %s\n", d)
	}
	if o.json {
		if err := printJSON(cmd.OutOrStdout(), a); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s in %s: %d new in the log, %d were there already", console.Count(a.Read, "event"), console.Count(len(a.Files), "file"), a.Stored, a.Present)
		if a.Mended > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "; %s lacked a field that was filled in", console.Count(a.Mended, "line"))
		}
		fmt.Fprintln(cmd.ErrOrStderr())
		if a.Kept != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "what was imported is kept as %s\n", a.Kept)
		}
	}
	if len(a.Damaged) > 0 {
		return fmt.Errorf("%s not imported; all others were", console.Count(len(a.Damaged), "line"))
	}
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func samePath(a, b string) bool {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return err1 == nil && err2 == nil && x == y
}

// An adoption imports the file, gives it another name, and lets the mirror take its
// place. A crash leaves the file under its name, under both names, under the other alone,
// or with a mirror, perhaps a torn one, in its place. Each is a state in which the command
// can be repeated.

// adopted gives the name under which the file of an adoption that came as far as to rename
// it is kept; "" where there is still a file to adopt.
func adopted(path string) (string, error) {
	last := ""
	for n := 1; ; n++ {
		if _, err := os.Lstat(keptName(path, n)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		last = keptName(path, n)
	}
	if last == "" {
		return "", nil
	}
	head, err := headOf(path)
	const ours = `{"seq":` // of each line of the mirror; a power cut may leave zeros
	if err != nil || len(head) > 0 && head[0] != 0 && head != ours[:min(len(head), len(ours))] {
		return "", err
	}
	return last, nil
}

// headOf gives the first bytes of a file; none where it is not there.
func headOf(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 7)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return string(head[:n]), err
}

// keep renames an adopted file to a name that nothing else uses.
func keep(path string) (string, error) {
	for n := 1; ; n++ {
		name := keptName(path, n)
		// Link fails where the name is taken, which rename would overwrite.
		err := os.Link(path, name)
		if errors.Is(err, fs.ErrExist) && !isSameFile(path, name) { // else an adoption ended here
			continue
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Remove(path)
		}
		if err != nil {
			return "", fmt.Errorf("keep the original under another name: %w", err)
		}
		return name, nil
	}
}

// keptName is the n-th name for a file that was adopted.
func keptName(path string, n int) string {
	base := path[:len(path)-len(filepath.Ext(path))]
	if n == 1 {
		return base + ".original.jsonl"
	}
	return fmt.Sprintf("%s.original-%d.jsonl", base, n)
}

func isSameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
