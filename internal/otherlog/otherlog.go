// Package otherlog reads the log in another directory, for an import, and keeps it aside
// once all of it is stored.
package otherlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/paths"
	"durablestream/mirror"
)

// Read hosts the log in a directory for this process alone, until the caller stops
// it, and reads all its events.
func Read(ctx context.Context, dir string) (_ *broker.Broker, events []event.Recorded, err error) {
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

// Keep puts a log aside whose host this process is: first its mirror's files and a receipt
// into its own directory, then that under another name. A crash between leaves a log whose next
// host writes the files again, and whose next import writes another receipt.
func Keep(dir string, r Receipt) (string, error) {
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
		kept := keptName(dir, n)
		if _, err := os.Lstat(kept); err == nil {
			continue // an earlier one: nothing is written over
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return kept, os.Rename(host, kept)
	}
}
