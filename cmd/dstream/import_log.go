package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/mirror"
)

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
	kept, err := keptLogs(from)
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
	host, events, err := readLogIn(cmd.Context(), from)
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
	report, err := d.ImportLog(cmd.Context(), "log", events, func(done int) { bar.Set(uint64(done), uint64(len(events))) })
	bar.Finish()
	a.Stored, a.Present = report.Stored, report.Present
	for _, r := range report.Refused {
		a.Damaged = append(a.Damaged, fmt.Sprintf("event %s, seq %d: %v", events[r.Index].ID, events[r.Index].Seq, r.Err))
	}
	if err != nil {
		return fmt.Errorf("the log in %s is left as it is: %w", from, err)
	}
	if len(a.Damaged) == 0 { // else it holds something that this one does not
		if a.Kept, err = keepLog(from, receipt{Log: d.Identity(), Events: len(events)}); err != nil {
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

// readLogIn hosts the log in a directory for this process alone, until the caller stops
// it, and reads all its events.
func readLogIn(ctx context.Context, dir string) (_ *broker.Broker, events []event.Recorded, err error) {
	b, err := broker.Start(ctx, broker.Config{Dir: filepath.Join(dir, durablestream.HostDir), NoCreate: true, Version: durablestream.Version})
	var locked *broker.LockedError
	var none *broker.NoLogError
	switch {
	case errors.As(err, &locked):
		return nil, nil, fmt.Errorf("it is in use: end whoever has it, and import it again: %w", err)
	case errors.As(err, &none):
		return nil, nil, &durablestream.NoLogError{Dir: dir, Mirror: paths.Exists(durablestream.MirrorPath(dir)), Lost: none.Lost}
	case err != nil:
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
		}
	}()
	nc, err := b.Connect()
	if err != nil {
		return nil, nil, err
	}
	defer nc.Close()
	c, err := client.New(ctx, nc, client.Config{})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	for r, err := range c.Query(ctx, event.Filter{}) {
		if err != nil {
			return nil, nil, err
		}
		events = append(events, r)
	}
	return b, events, nil
}

// importedDir is where a log is kept that another one has taken over. A .gitignore of its
// own keeps it out of version control, as before.
const importedDir = durablestream.HostDir + ".imported"

// keepLog puts a log aside whose host this process is: first its mirror's files and a receipt
// into its own directory, then that under another name. A crash between leaves a log whose next
// host writes the files again, and whose next import writes another receipt.
func keepLog(dir string, r receipt) (string, error) {
	host := filepath.Join(dir, durablestream.HostDir)
	if err := r.write(host); err != nil {
		return "", err
	}
	files, err := mirror.Files(dir)
	if err != nil {
		return "", err
	}
	for _, path := range files {
		if err := os.Rename(path, filepath.Join(host, filepath.Base(path))); err != nil {
			return "", err
		}
	}
	for n := 1; ; n++ {
		kept := keptLogName(dir, n)
		if _, err := os.Lstat(kept); err == nil {
			continue // an earlier one: nothing is written over
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return kept, os.Rename(host, kept)
	}
}
