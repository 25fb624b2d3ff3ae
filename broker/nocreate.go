package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NoLogError is a host directory without a Log, where none may be created: Config.NoCreate
// forbids it, or there was one.
type NoLogError struct {
	Dir  string
	Lost bool // one was hosted here, and its store is gone: see Lost
}

func (e *NoLogError) Error() string {
	if e.Lost {
		return fmt.Sprintf("broker: the log in %s is gone", e.Dir)
	}
	return fmt.Sprintf("broker: there is no log in %s", e.Dir)
}

// prepare makes the host directory, or demands that there is a store where nothing may
// be created.
func (c Config) prepare() error {
	if err := c.demandStore(); err != nil {
		return err
	}
	if !c.NoCreate {
		return makeDir(c.Dir)
	}
	_, err := os.Stat(filepath.Join(c.Dir, StoreDir))
	if errors.Is(err, fs.ErrNotExist) {
		return &NoLogError{Dir: c.Dir}
	}
	if err != nil {
		return fmt.Errorf("broker: cannot look at the store: %w", err)
	}
	return nil
}
