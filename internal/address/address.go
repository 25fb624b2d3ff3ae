// Package address reads and writes the file by which the processes of a project
// find its host.
package address

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"durablestream/event"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// Address names the host's broker and the process that runs it.
type Address struct {
	URL      string `json:"url"`
	Token    string `json:"token"` // a new one at each start, so that nobody joins another project's broker on a reused port
	PID      int    `json:"pid"`
	Format   int    `json:"format"`
	Version  string `json:"version,omitempty"`
	Since    int64  `json:"since"` // Unix ms
	ServerID string `json:"server_id,omitempty"`
	Prove    string `json:"prove,omitempty"` // host:port where it shows that it hosts this directory; "": an earlier version
}

// ErrNone means that there is no address file.
var ErrNone = errors.New("no host has left its address")

// Read reads the address file. For a file without a valid address it returns an error
// that names the file.
func Read(path string) (Address, error) {
	b, err := paths.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Address{}, ErrNone
	}
	if err != nil {
		return Address{}, fmt.Errorf("address: %w", err)
	}
	var a Address
	if err := json.Unmarshal(b, &a); err != nil || a.URL == "" {
		return Address{}, fmt.Errorf("address: %s is not an address file; remove it when no host is running", path)
	}
	if a.Format > wire.Format {
		return Address{}, fmt.Errorf("address: %s: %w", path, &event.NewerFormatError{Have: fmt.Sprint(a.Format), Known: wire.Format})
	}
	return a, nil
}

// Write replaces the address file in one step: every reader sees the old or the new file,
// also after a crash.
func Write(path string, a Address) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "address.*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	_, err = tmp.Write(append(b, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	return nil
}

// Remove removes the address file if this process still owns it. A process id alone does
// not prove that: another process in another container may have the same id.
func Remove(path string, mine Address) error {
	if a, err := Read(path); err != nil || a != mine {
		return nil //nolint:nilerr // somebody else's, or none: not ours to take away
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("address: %w", err)
	}
	return nil
}
