package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"durablestream/internal/blocks"
	"durablestream/internal/paths"
)

// ownLockFile gives a directory whose files are hard links to another one's (cp -al) a
// lock file of its own. The lock of the store's directory, which cannot be a hard link,
// keeps a host that runs, and another one that begins, out of that.
func (b *Broker) ownLockFile() error {
	path := filepath.Join(b.cfg.Dir, LockFile)
	if shared, err := paths.Shared(path); err != nil || !shared {
		return err
	}
	store := flock.New(filepath.Join(b.cfg.Dir, StoreDir), flock.SetFlag(os.O_RDONLY))
	ok, err := store.TryLock()
	if err != nil || !ok {
		return err
	}
	_, err = paths.Own(path)
	return errors.Join(err, store.Unlock())
}

// ownFiles gives such a directory files of its own, before the engine writes into them:
// else what one of the two logs stores would be in the other one, under it. Full blocks
// are never written again, and stay shared. It is called under the locks, at each start,
// also after a crash in the middle.
func (b *Broker) ownFiles() error {
	newest := map[string]bool{} // block of its directory
	copied := 0
	err := filepath.WalkDir(b.cfg.Dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.IsDir() && e.Name() == DamagedDir:
			return fs.SkipDir
		case e.IsDir():
			list, err := blocks.List(path)
			if len(list) > 0 {
				newest[list[len(list)-1].Path] = true
			}
			return err
		case !e.Type().IsRegular(), filepath.Ext(path) == ".blk" && !newest[path]:
			return nil
		}
		changed, err := paths.Own(path)
		if changed {
			copied++
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if copied > 0 {
		b.cfg.Logger.Info("files were hard links, shared with another directory: they were copied", "files", copied)
	}
	return nil
}
