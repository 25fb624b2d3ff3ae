package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/internal/legacy"
	"durablestream/internal/otherlog"
	"durablestream/internal/paths"
	"durablestream/internal/place"
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
			if len(args) == 1 && !adopt && paths.IsDirectory(args[0]) {
				if err := importLog(cmd, o, args[0]); err != nil || !expire {
					return err
				}
			} else if len(args) > 0 {
				if err := importFiles(cmd, o, args, adopt); err != nil || !expire {
					return err
				}
			}
			expiring := func(cfg *durablestream.Config) { cfg.Command.NoCreate = true }
			return withLog(cmd, o, func(ctx context.Context, d *durablestream.DurableStream) error {
				checkpoints, intents, err := d.Client().Deadlines().ExpireImported(ctx)
				fmt.Fprintf(cmd.ErrOrStderr(), "%s expired, %s failed with reason timeout\n", console.Count(checkpoints, "imported checkpoint"), console.Count(intents, "imported intent"))
				return err
			}, expiring)
		},
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "import the file that lies where the mirror goes, then keep it under another name")
	cmd.Flags().BoolVar(&expire, "expire", false, "end what was imported and is overdue: checkpoints expire, intents fail")
	return cmd
}

func importFiles(cmd *cobra.Command, o *options, list []string, adopt bool) error {
	a := importAnswer{Damaged: []string{}}
	if adopt && !samePath(list[0], durablestream.MirrorPath(o.dir)) {
		return usage(fmt.Errorf("--adopt is for the file that lies where the mirror goes, %s; to import %s, leave --adopt out", durablestream.MirrorPath(o.dir), list[0]))
	}
	if adopt {
		var err error
		if a.Kept, err = legacy.Adopted(list[0]); err != nil {
			return err
		}
		if a.Kept != "" {
			list = []string{a.Kept}
		}
	}
	lines, err := legacy.ReadAll(list)
	a.Files, a.Read, a.Mended, a.Damaged = lines.Files, len(lines.Events), lines.Mended, lines.Damaged
	if adopt && errors.Is(err, legacy.ErrMirrorLine) {
		return fmt.Errorf("%s is the mirror of this log: if a file of the original lay there, it was adopted already", list[0])
	}
	if err != nil {
		return err
	}
	if err := a.store(cmd, o, lines, adopt); err != nil {
		return err
	}
	if adopt {
		if a.Kept == "" {
			if a.Kept, err = legacy.Keep(list[0]); err != nil {
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

func (a *importAnswer) store(cmd *cobra.Command, o *options, lines legacy.Lines, adopt bool) (err error) {
	d, err := o.open(cmd, func(cfg *durablestream.Config) {
		cfg.Command.NoMirror, cfg.Command.NoSweeper, cfg.Command.NoTakeOver = adopt, adopt, adopt
	})
	if err != nil {
		return err
	}
	defer closing(d, &err)
	bar := console.NewBar(cmd.ErrOrStderr(), "importing")
	report, err := d.Admin().Import(cmd.Context(), "original", lines.Events, func(done int) { bar.Set(uint64(done), uint64(len(lines.Events))) })
	bar.Finish()
	a.Stored, a.Present = report.Stored, report.Present
	for _, r := range report.Refused {
		a.Damaged = append(a.Damaged, lines.Where[r.Index]+": "+r.Err.Error())
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

func samePath(a, b string) bool {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return err1 == nil && err2 == nil && x == y
}

// importedAlready answers a repeated import: a success that changes nothing where the receipts
// say that it is this log that has all events.
func importedAlready(cmd *cobra.Command, o *options, from string, kept []string) (err error) {
	a := importAnswer{Files: []string{from}, Damaged: []string{}, Kept: kept[len(kept)-1]}
	var receipts []otherlog.Receipt
	for _, path := range kept {
		r := otherlog.ReadReceipt(path)
		receipts = append(receipts, r)
		a.Read += r.Events
	}
	a.Present = a.Read
	d, err := o.open(cmd, func(cfg *durablestream.Config) { cfg.Command.NoCreate = true })
	if err != nil {
		return errors.Join(fmt.Errorf("there is no log in %s any more: another one has taken it over, and it is kept in %s", from, a.Kept), err)
	}
	defer closing(d, &err)
	for i, r := range receipts {
		if r.Log != d.Client().Identity() {
			return fmt.Errorf("another log has taken it over already: it is kept in %s", kept[i])
		}
	}
	return a.tell(cmd, o)
}

// importLog takes over the log in the directory from: that of a work tree, above all,
// which would go with the work tree. What is open there is open in this one. Then the
// log is kept aside, so that the work tree uses this one from now on.
//
// Nothing of the other log is changed before all of it is stored here. A crash before
// that leaves it as it is, and the import is repeated: what is stored already is not
// stored again. While it is read it is locked, and nobody is let in: nothing can be
// appended that would be left behind.
func importLog(cmd *cobra.Command, o *options, from string) (err error) {
	from = paths.Absolute(from)
	if err := o.destination(cmd, from); err != nil {
		return err
	}
	kept, err := otherlog.Kept(from)
	if err != nil {
		return err
	}
	if len(kept) > 0 {
		return importedAlready(cmd, o, from, kept)
	}
	d, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	if err := errors.Join(paths.NotAsRoot(from), paths.NoLogLink(from)); err != nil {
		return err
	}
	host, events, err := otherlog.Read(cmd.Context(), from)
	if err != nil {
		return fmt.Errorf("the log in %s is left as it is: %w", from, err)
	}
	defer func() {
		if serr := host.Stop(context.WithoutCancel(cmd.Context())); err == nil && serr != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "dstream: the log that was taken over did not end well: %s\n", console.Plain(serr.Error()))
		}
	}()
	a := importAnswer{Files: []string{from}, Read: len(events), Damaged: []string{}}
	_, worktree := place.SharedLog(from)
	for i := range events {
		events[i].Metadata = event.WithWorktree(events[i].Metadata, worktree)
	}
	bar := console.NewBar(cmd.ErrOrStderr(), "importing")
	report, err := d.Admin().ImportLog(cmd.Context(), "log", events, func(done int) { bar.Set(uint64(done), uint64(len(events))) })
	bar.Finish()
	a.Stored, a.Present = report.Stored, report.Present
	for _, r := range report.Refused {
		a.Damaged = append(a.Damaged, fmt.Sprintf("event %s, seq %d: %v", events[r.Index].ID, events[r.Index].Seq, r.Err))
	}
	if err != nil {
		return fmt.Errorf("the log in %s is left as it is: %w", from, err)
	}
	if len(a.Damaged) == 0 { // else it holds something that this one does not
		if a.Kept, err = otherlog.Keep(from, otherlog.Receipt{Log: d.Client().Identity(), Events: len(events)}); err != nil {
			return fmt.Errorf("all of it is stored, and the log in %s stays in use there: %w", from, err)
		}
	}
	return a.tell(cmd, o)
}

// destination checks where the log in from is to go. Given in the work tree itself, the
// command would use that very log: then it is the shared one.
func (o *options) destination(cmd *cobra.Command, from string) error {
	if len(o.servers) > 0 || !samePath(from, o.dir) {
		return nil
	}
	if shared, _ := place.SharedLog(from); shared != "" && !cmd.Flags().Changed("dir") {
		o.dir = shared
		return nil
	}
	return usage(fmt.Errorf("%s is the log itself: --dir names the log that is to take it over", from))
}
