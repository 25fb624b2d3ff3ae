package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NoLogError is a host directory without a Log, where Config.NoCreate forbids to
// create one.
type NoLogError struct{ Dir string }

func (e *NoLogError) Error() string { return fmt.Sprintf("broker: there is no log in %s", e.Dir) }

// prepare makes the host directory, or demands that there is a store where nothing may
// be created.
func (c Config) prepare() error {
	if !c.NoCreate {
		return makeDir(c.Dir)
	}
	_, err := os.Stat(filepath.Join(c.Dir, StoreDir))
	if errors.Is(err, fs.ErrNotExist) {
		return &NoLogError{c.Dir}
	}
	if err != nil {
		return fmt.Errorf("broker: cannot look at the store: %w", err)
	}
	return nil
}
