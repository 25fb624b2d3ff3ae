package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Lost reports that a lone host's Log was hosted in the host directory dir, as HomeFile
// says, which is written behind the Log, and that its store is gone. Where that file names
// another directory, dir is a copy, or was moved, and nothing is known.
func Lost(dir string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(dir, StoreDir)); !errors.Is(err, fs.ErrNotExist) {
		return false, nil // what is there, others look at
	}
	return hostedIn(dir)
}

// hostedIn reports that HomeFile names the directory that it is in.
func hostedIn(dir string) (bool, error) {
	home, err := readHome(dir)
	if err != nil || home == "" {
		return false, err
	}
	there, err := os.Stat(home)
	if err != nil {
		return false, nil //nolint:nilerr // it names another one
	}
	here, err := os.Stat(dir)
	if err != nil {
		return false, fmt.Errorf("broker: %w", err)
	}
	return os.SameFile(here, there), nil
}

// mayLose reports that a Log which is missing is none of this host's business: a node has
// its copy from the others, a restore makes the Log again, and who takes over expects one.
func (c Config) mayLose() bool {
	return c.Cluster != nil || c.Restoring || c.ReadOnly || c.Expect != ""
}

// demandStore keeps a host from making another store in the place of one that is gone.
func (c Config) demandStore() error {
	if c.mayLose() {
		return nil
	}
	lost, err := Lost(c.Dir)
	if err == nil && lost {
		err = &NoLogError{c.Dir, true}
	}
	return err
}

// demandHeld is demandStore under the lock, where the store is there, and nothing in it.
func (b *Broker) demandHeld() error {
	if b.cfg.mayLose() || b.fenced().Holds() {
		return nil
	}
	lost, err := hostedIn(b.cfg.Dir)
	if err == nil && lost {
		err = &NoLogError{b.cfg.Dir, true}
	}
	return err
}
