// Package staged keeps the messages of batches that the engine has not committed yet, for which
// the engine has a directory each.
package staged

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"durablestream/internal/engine"
	"durablestream/internal/room"
)

// Batches says where they are.
type Batches struct {
	Staged string // by the engine, which deletes them there
	Aside  string // kept until the end of the Log is seen
	Host   string // its directory
	Logger *slog.Logger
}

// PutAside moves what is staged aside. Of a batch that is there already the engine has had a
// copy.
func (b Batches) PutAside() error {
	from, to := b.Staged, b.Aside
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = os.MkdirAll(to, 0o700)
	}
	for _, e := range entries {
		if err != nil {
			break
		}
		at := filepath.Join(to, e.Name())
		if _, there := os.Lstat(at); errors.Is(there, fs.ErrNotExist) {
			err = os.Rename(filepath.Join(from, e.Name()), at)
		}
	}
	if err == nil {
		err = os.RemoveAll(from)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the batches that are under way: %w", err)
	}
	return nil
}

// Lend gives the engine, which is off, copies of the batches with these ids, or of all that are
// kept, and reports that it has. Where there is no room for that it gets none.
func (b Batches) Lend(ids []string, all bool) (lent bool, err error) {
	dirs, err := b.needed(ids, all)
	if err != nil || len(dirs) == 0 {
		return false, err
	}
	var size int64
	for _, name := range dirs {
		size += sizeOfAll(filepath.Join(b.Aside, name))
	}
	r, err := room.Of(b.Host)
	if err == nil && r.Free < room.Size+2*size {
		b.Logger.Warn("a batch may be stored in part, and there is no room to complete it: appends are refused until there is", "free", r.Free, "needed", room.Size+2*size)
		return false, nil
	}
	for _, name := range dirs {
		if err == nil {
			err = os.CopyFS(filepath.Join(b.Staged, name), os.DirFS(filepath.Join(b.Aside, name)))
		}
	}
	if err != nil { // somebody else has filled the disk
		b.Logger.Warn("the rest of a batch cannot be copied for the engine", "err", err)
		return false, os.RemoveAll(b.Staged)
	}
	return true, nil
}

func (b Batches) needed(ids []string, all bool) (dirs []string, err error) {
	kept, err := os.ReadDir(b.Aside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range kept {
		needed := all
		for _, id := range ids {
			needed = needed || e.Name() == engine.BatchDir(id)
		}
		if needed {
			dirs = append(dirs, e.Name())
		}
	}
	return dirs, err
}

// Kept reports whether the rest of a batch is kept aside, and whether there is enough room for the
// engine to complete it.
func (b Batches) Kept(id string) (kept, enough bool) {
	dir := filepath.Join(b.Aside, engine.BatchDir(id))
	_, err := os.Stat(dir)
	r, full := room.Of(b.Host)
	return !errors.Is(err, fs.ErrNotExist), full == nil && r.Free >= room.Size+2*sizeOfAll(dir)
}

// Forget removes what is kept aside.
func (b Batches) Forget() error { return os.RemoveAll(b.Aside) }

// Needs is how many bytes the engine's start may take for batches that are stored in
// part, while the engine is at work: only some of them are needed in the end.
func (b Batches) Needs() int64 { return 2 * (sizeOfAll(b.Staged) + sizeOfAll(b.Aside)) }

func sizeOfAll(dir string) (size int64) {
	// What goes meanwhile is of no size; what cannot be read, the engine cannot either.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
