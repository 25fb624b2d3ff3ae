package broker

import (
	"errors"
	"fmt"
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
	copied, err := blocks.OwnFiles(b.cfg.Dir, DamagedDir)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if copied > 0 {
		b.cfg.Logger.Info("files were hard links, shared with another directory: they were copied", "files", copied)
	}
	return nil
}
