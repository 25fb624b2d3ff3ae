package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Life says whether a run of OpenCode goes on.
type Life int

// The kinds of Life.
const (
	// LifeUnknown: it ran on another machine, and has left no trace on this one.
	LifeUnknown Life = iota
	LifeOver
	LifeOn
)

// Presence tells which runs of OpenCode are alive, by a file for each in one
// directory. `dstream rpc` holds a lock on it from the run's first event until its
// input ends, which is when OpenCode ends, however it does: so neither a heartbeat
// nor a process id that was given anew can mislead. While a killed `dstream rpc` is
// being started again, its run looks as if it were over.
type Presence struct {
	// Dir is the directory. Default: none, and nothing is known of any run.
	Dir string
}

// keepTrace is how long the file of a run that is over stays.
const keepTrace = 30 * 24 * time.Hour

func (p Presence) path(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return filepath.Join(p.Dir, hex.EncodeToString(sum[:16])+".run")
}

// Of says whether a run is alive.
func (p Presence) Of(instance string) Life {
	if p.Dir == "" {
		return LifeUnknown
	}
	path := p.path(instance)
	if _, err := os.Stat(path); err != nil {
		host, err := os.Hostname()
		if err == nil && strings.HasPrefix(instance, host+":") {
			return LifeOver
		}
		return LifeUnknown
	}
	lock := flock.New(path)
	free, err := lock.TryRLock()
	if err != nil {
		return LifeUnknown
	}
	if !free {
		return LifeOn
	}
	_ = lock.Unlock()
	return LifeOver
}

// hold says that a run is alive until the lock is given back.
func (p Presence) hold(ctx context.Context, instance string) (*flock.Flock, error) {
	if p.Dir == "" {
		return nil, nil //nolint:nilnil // nothing to hold, and nobody to tell
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	p.tidy()
	lock := flock.New(p.path(instance), flock.SetPermissions(0o600))
	soon, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // somebody may be looking
	defer cancel()
	if ok, err := lock.TryLockContext(soon, 10*time.Millisecond); !ok {
		return nil, fmt.Errorf("rpc: another process has the lock of the run %s: give each run of OpenCode a name of its own (%w)", instance, err)
	}
	about := encode(map[string]any{"instance": instance, "pid": os.Getpid()})
	if err := os.WriteFile(lock.Path(), append(about, '\n'), 0o600); err != nil {
		return lock, fmt.Errorf("rpc: %w", err)
	}
	return lock, nil
}

// tidy removes what runs left behind that have been over for long.
func (p Presence) tidy() {
	files, err := filepath.Glob(filepath.Join(p.Dir, "*.run"))
	if err != nil {
		return
	}
	for _, path := range files {
		about, err := os.Stat(path)
		if err != nil || time.Since(about.ModTime()) < keepTrace {
			continue
		}
		lock := flock.New(path)
		if free, err := lock.TryLock(); err == nil && free {
			_ = os.Remove(path)
			_ = lock.Unlock()
		}
	}
}
