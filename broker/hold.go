package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// repairFile is locked while a repair is under way: nobody begins to host then.
const repairFile = "repair.lock"

// RepairError is a store that is being repaired.
type RepairError struct{ Dir string }

func (e *RepairError) Error() string {
	return fmt.Sprintf("broker: the store in %s is being repaired by 'dstream doctor': wait until it ends", e.Dir)
}

// notRepaired demands that no repair is under way.
func (b *Broker) notRepaired() error {
	path := filepath.Join(b.cfg.Dir, repairFile)
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // nobody has begun one
	}
	lock := flock.New(path)
	ok, err := lock.TryRLock()
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if !ok {
		return &RepairError{b.cfg.Dir}
	}
	return lock.Unlock()
}

// Repair keeps others from beginning to host the log in dir until release. Whoever
// hosts goes on.
func Repair(dir string) (release func() error, err error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := noLinks(dir, repairFile); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, repairFile), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if !ok {
		return nil, &RepairError{dir}
	}
	held.Store(lock, struct{}{})
	return func() error { held.Delete(lock); return errors.Join(os.Remove(lock.Path()), lock.Unlock()) }, nil
}

// Hold takes the locks of a host without hosting: nobody hosts the store until release. It returns a
// *LockedError while somebody does.
func Hold(dir string) (release func() error, err error) {
	b := &Broker{cfg: Config{Dir: dir}}
	if err := b.takeLock(); err != nil {
		return nil, err
	}
	return b.unlock, nil
}
