package broker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/fence"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// HomeFile is inside Config.Dir, and says where the directory was when it was hosted last.
const HomeFile = "home"

// MissingLogError is a directory that does not hold the Log that was to be hosted there,
// or was joined there: it was moved or removed, or another Log is in its place.
type MissingLogError struct {
	Dir   string // of the host
	Other bool   // another Log is there
}

func (e *MissingLogError) Error() string {
	if e.Other {
		return fmt.Sprintf("broker: the log in %s is another one than before", e.Dir)
	}
	return fmt.Sprintf("broker: the log is no longer in %s", e.Dir)
}

// LogIn is the identity of the Log that a host directory holds, read from its files: ""
// where it holds none. It is what the host of that directory has, or would have.
func LogIn(dir string) (string, error) {
	store := filepath.Join(dir, StoreDir)
	found, err := blocks.Find(store)
	if err != nil || len(found) == 0 {
		return "", err
	}
	last := filepath.Dir(found[len(found)-1]) // the one behind the fence, if there is one
	b, err := paths.ReadFile(filepath.Join(last, engine.ConfigFile))
	id, ok := identityIn(b)
	if !ok { // it has gone, or is being written
		if b, err = paths.ReadFile(filepath.Join(store, fence.KeptFile)); err == nil {
			_, b, _ = bytes.Cut(b, []byte("\n")) // behind its checksum
			id, ok = identityIn(b)
		}
	}
	if !ok {
		return "", fmt.Errorf("broker: the configuration of the log in %s cannot be read (%w)", dir, cmp.Or(err, errTorn))
	}
	return id, nil
}

var errTorn = errors.New("it is torn")

// identityIn reads the engine's configuration of a stream.
func identityIn(meta []byte) (id string, ok bool) {
	var cfg struct {
		Created time.Time
		jetstream.StreamConfig
	}
	if json.Unmarshal(meta, &cfg) != nil || cfg.Created.IsZero() {
		return "", false
	}
	return wire.Identity(cfg.Created, cfg.StreamConfig), true
}

// expected demands that the directory holds the Log that is to be taken over. It makes
// nothing: where the directory has gone, a new one would be another log's.
func (c Config) expected() error {
	if c.Expect == "" {
		return nil
	}
	is, err := LogIn(c.Dir)
	switch {
	case err != nil:
		return err
	case is != c.Expect:
		return &MissingLogError{c.Dir, is != ""}
	}
	return nil
}

// settleIdentity learns which Log this is. A lone host whose directory is a copy makes the copied
// Log one of its own: who has joined the other one must not take this one for it.
//
// A crash after the mark and before the home file leaves a Log that differs from the one
// in its old home already, which counts as moved.
func (b *Broker) settleIdentity(ctx context.Context) error {
	if err := b.learnIdentity(ctx); err != nil {
		return err
	}
	if is := b.Log(); b.cfg.Expect != "" && is != b.cfg.Expect {
		return &MissingLogError{b.cfg.Dir, true}
	}
	if b.cfg.Cluster != nil || b.cfg.ReadOnly {
		return nil
	}
	if err := b.settleHome(ctx); err != nil { // as on a disk that is full: it is tried again at the next start
		b.cfg.Logger.Info("it is not noted where this log is, so that a copy of it may not be told", "err", err)
	}
	return nil
}

func (b *Broker) settleHome(ctx context.Context) error {
	home, err := readHome(b.cfg.Dir)
	if err != nil || home == b.cfg.Dir {
		return err
	}
	if home != "" && b.copiedFrom(home) {
		if err := b.markCopy(ctx); err != nil {
			return err
		}
		b.cfg.Logger.Warn(fmt.Sprintf("%s is a copy of %s: it is a log of its own from here on, and what is appended in one of them is not in the other", b.cfg.Dir, home))
	}
	return b.writeHome()
}

// learnIdentity asks the engine about the Log.
func (b *Broker) learnIdentity(ctx context.Context) error {
	s, err := b.js.Stream(ctx, wire.LogName)
	if err != nil {
		return fmt.Errorf("broker: cannot read the Log's configuration: %w", err)
	}
	id := wire.Identity(s.CachedInfo().Created, s.CachedInfo().Config)
	b.identity.Store(&id)
	return nil
}

// Log is the identity of the Log that this broker hosts.
func (b *Broker) Log() string {
	if id := b.identity.Load(); id != nil {
		return *id
	}
	return ""
}

// copiedFrom reports that the Log is at home, too, in another directory than this one.
// What cannot be seen, as from within a container, counts as moved.
func (b *Broker) copiedFrom(home string) bool {
	there, err := os.Stat(filepath.Join(home, StoreDir))
	if err != nil || os.SameFile(there, b.storeInfo) {
		return false
	}
	is, err := LogIn(home)
	return err == nil && is == b.Log()
}

func (b *Broker) markCopy(ctx context.Context) error {
	s, err := b.js.Stream(ctx, wire.LogName)
	if err == nil {
		_, err = b.js.UpdateStream(ctx, wire.MarkCopy(s.CachedInfo().Config, rand.Text()))
	}
	if err != nil {
		return fmt.Errorf("broker: cannot mark the Log as a copy: %w", err)
	}
	b.keepConfig()
	return b.learnIdentity(ctx)
}

type home struct {
	Dir string `json:"dir"`
}

// readHome gives the path that the directory had; "" where it was never hosted, or only
// by an earlier version.
func readHome(dir string) (string, error) {
	path := filepath.Join(dir, HomeFile)
	body, err := paths.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var h home
	if err == nil && json.Unmarshal(body, &h) != nil {
		return "", nil //nolint:nilerr // torn: it is written anew
	}
	if err != nil {
		return "", fmt.Errorf("broker: %w", err)
	}
	return h.Dir, nil
}

func (b *Broker) writeHome() error {
	body, err := json.Marshal(home{b.cfg.Dir})
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if err := paths.WriteSynced(filepath.Join(b.cfg.Dir, HomeFile), append(body, '\n')); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}
