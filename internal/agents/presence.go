package agents

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"durablestream/event"
	"durablestream/internal/agents/source"
	"durablestream/internal/paths"
)

// Presence knows which runs of an agent are alive, by a file for each in one
// directory. `dstream rpc` holds a lock on it from the run's first event until its
// input ends, which is when the agent ends, however it does: so neither a heartbeat
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
func (p Presence) Of(instance string) source.Life {
	if p.Dir == "" {
		return source.LifeUnknown
	}
	path := p.path(instance)
	if _, err := os.Stat(path); err != nil {
		host, err := os.Hostname()
		if err == nil && strings.HasPrefix(instance, host+":") {
			return source.LifeOver
		}
		return source.LifeUnknown
	}
	if paths.NoLink(path) != nil {
		return source.LifeUnknown
	}
	lock := flock.New(path)
	free, err := lock.TryRLock()
	if err != nil {
		return source.LifeUnknown
	}
	if !free {
		return source.LifeOn
	}
	_ = lock.Unlock()
	return source.LifeOver
}

// trace is the content of a run's file.
type trace struct {
	Instance string         `json:"instance"`
	PID      int            `json:"pid"`             // of dstream rpc
	Began    event.Sequence `json:"began,omitempty"` // nothing of this run is in the Log up to here
}

// hold says that a run is alive until the lock is given back; now is where the Log ends.
// It returns where the Log ended when the run began; 0 where that is not known.
func (p Presence) hold(ctx context.Context, instance string, now event.Sequence) (*flock.Flock, event.Sequence, error) {
	if p.Dir == "" {
		return nil, 0, nil
	}
	host := filepath.Dir(p.Dir)
	// A log on servers has not created these directories.
	err := paths.MakeDir(filepath.Dir(host))
	if err == nil {
		err = paths.MakeHostDir(host)
	}
	if err == nil {
		err = paths.MakeDir(p.Dir)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("agents: %w", err)
	}
	p.tidy()
	t := trace{Instance: instance, PID: os.Getpid(), Began: now}
	if b, err := paths.ReadFile(p.path(instance)); err == nil {
		var was trace
		if json.Unmarshal(b, &was) != nil || was.Instance != instance || was.Began > now {
			was.Began = 0 // damaged, or of a log that was made anew
		}
		t.Began = was.Began
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Began = 0
	}
	if err := paths.NoLink(p.path(instance)); err != nil {
		return nil, 0, fmt.Errorf("agents: %w", err)
	}
	lock := flock.New(p.path(instance), flock.SetPermissions(0o600))
	soon, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // somebody may be looking
	defer cancel()
	if ok, err := lock.TryLockContext(soon, 10*time.Millisecond); !ok {
		return nil, t.Began, fmt.Errorf("agents: another process has the lock of the run %s: give each run a name of its own (%w)", instance, err)
	}
	if err := os.WriteFile(lock.Path(), append(encode(t), '\n'), 0o600); err != nil {
		return lock, t.Began, fmt.Errorf("agents: %w", err)
	}
	return lock, t.Began, nil
}

// tidy removes what runs left behind that have been over for long.
func (p Presence) tidy() {
	files, err := fs.Glob(os.DirFS(p.Dir), "*.run")
	if err != nil {
		return
	}
	for _, name := range files {
		path := filepath.Join(p.Dir, name)
		about, err := os.Lstat(path)
		if err != nil || !about.Mode().IsRegular() || time.Since(about.ModTime()) < keepTrace {
			continue
		}
		lock := flock.New(path)
		if free, err := lock.TryLock(); err == nil && free {
			_ = os.Remove(path)
			_ = lock.Unlock()
		}
	}
}
