// Package fence keeps the Log of a single host in a place where the engine cannot delete
// it.
//
// # The layout
//
// The engine expects the Log in <store>/jetstream/<account>/streams/EVENTS. With the
// fence, that name is a relative symbolic link, and the data is beside the engine's own
// directories:
//
//	store/jetstream/$G/streams/EVENTS -> ../../../log
//	store/log/          meta.inf, meta.sum, msgs, obs, batches
//	store/log.meta      a copy of the configuration, with its checksum
//
// # Safety
//
// Every operation of the engine on a whole stream ends in a rename or in os.RemoveAll of
// that name: both affect the link, and not the data behind it. The engine can still
// remove meta.inf, which it does before it deletes a stream by request, and it applies
// the limits of the configuration. So the host keeps a copy of the configuration, and
// removes limits before the engine reads it (limits.go).
//
// Settle runs under the host's lock before each start of the engine. Its invariant: while
// store/log or the engine's directory holds a message, Settle leaves the Log in its place
// or returns an error, and Holds reports true. The host creates a Log only where Holds
// reports false.
//
// # Liveness
//
// Each step of Settle is a rename, a link or a synced file written in one step. A crash
// leaves one of the states that Settle starts from:
//
//   - the conversion of an older store exchanges directory and link in one system call,
//     so that an older program finds the Log at every moment. Where the system has no
//     such call the directory is moved first: after a crash there, Settle adds the link;
//   - a configuration is written as copy, meta.inf, meta.sum. After a crash either
//     meta.inf still has its old checksum, or the copy has the new one.
//
// A store on a file system without links keeps its real directory, as does the node of a
// cluster: there the engine replaces the link by a real directory when it copies the Log
// from another node, and the other nodes' copies are the protection.
package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// The names inside a store.
const (
	DataDir  = blocks.DataDir // the Log itself
	KeptFile = "log.meta"     // the copy of its configuration
)

// target is the path in the link: from streams/ up to the store.
var target = filepath.Join("..", "..", "..", DataDir)

// Store is the store of a single host, whose lock the caller holds.
type Store struct {
	Dir     string // the store
	Name    string // the store for words; default Dir
	Account string // that holds the Log
	Aside   string // a directory for what is replaced; made when needed
	Logger  *slog.Logger
	Blind   bool // the engine is of an unknown version: its configuration is left alone

	// step is called before each change, with its name. A test returns an error there,
	// which leaves the directory in the same state as a crash at that moment.
	step func(string) error
}

// LostError reports a store whose Log is not in its place, and cannot be put back.
type LostError struct {
	Store string
	What  string // was found
}

func (e *LostError) Error() string {
	return fmt.Sprintf("fence: the Log in the store %s is not whole: %s. Nothing was changed, and no other Log is created in its place; "+
		"put the missing files back, or move the whole store away and run 'dstream restore', which rebuilds the Log from the mirror", e.Store, e.What)
}

// TwoLogsError reports a store with one Log behind the fence and another Log in the
// engine's directory.
type TwoLogsError struct{ Engine, Data string }

func (e *TwoLogsError) Error() string {
	return fmt.Sprintf("fence: the store holds two Logs with events: %s and %s. Nothing was changed; "+
		"compare both with the mirror, and move the one that is not this project's out of the store", e.Engine, e.Data)
}

func (s Store) streams() string { return filepath.Dir(filepath.Dir(blocks.Dir(s.Dir, s.Account))) }
func (s Store) engine() string  { return filepath.Join(s.streams(), wire.LogName) }
func (s Store) data() string    { return filepath.Join(s.Dir, DataDir) }

func (s Store) at(step string) error {
	if s.step == nil {
		return nil
	}
	return s.step(step)
}

func (s Store) lost(format string, args ...any) error {
	return &LostError{s.shown(s.Dir), fmt.Sprintf(format, args...)}
}

// shown is a path in the store for words.
func (s Store) shown(path string) string {
	if rest, ok := strings.CutPrefix(path, s.Dir); ok && s.Name != "" {
		return s.Name + rest
	}
	return path
}

// place is the state of a path.
type place int

const (
	nothing place = iota
	directory
	ourLink   // to the data
	otherLink // somebody's own
	other
)

func placeOf(path string) (place, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case err != nil:
		return nothing, err
	case info.IsDir():
		return directory, nil
	case info.Mode()&fs.ModeSymlink == 0:
		return other, nil
	}
	to, err := os.Readlink(path)
	if err == nil && to == target {
		return ourLink, nil
	}
	return otherLink, err
}

// Settle puts the Log back where the engine expects it, behind the fence, and removes the
// limits from its configuration. It returns a *LostError or a *TwoLogsError for a store
// that it cannot settle; the engine must not start on such a store.
func (s Store) Settle() error {
	if err := s.settle(); err != nil {
		var lost *LostError
		var two *TwoLogsError
		if errors.As(err, &lost) || errors.As(err, &two) {
			return err
		}
		return fmt.Errorf("fence: cannot settle the store: %w", err)
	}
	return nil
}

// reclaim removes a dangling link in the place of the data, which a crash just before the
// exchange has left.
func (s Store) reclaim() error {
	if p, err := placeOf(s.data()); err != nil || p != ourLink {
		return err
	}
	if err := s.at("unlink"); err != nil {
		return err
	}
	return os.Remove(s.data())
}

// errDue ends a dry run of Settle.
var errDue = errors.New("there is something to do")

// Due describes what Settle would repair in a store; "" if there is nothing to repair.
// Its errors are those of Settle. It changes nothing.
func (s Store) Due() (words string, err error) {
	s.Logger = nil
	s.step = func(step string) error {
		words = map[string]string{
			"link":    "the link to the Log has gone, which the engine or a person has removed; everything behind it is there",
			"keep":    "the Log's stored configuration has gone, is damaged, or has a limit by which the engine would delete events",
			"partial": "a crash while the Log was created has left half of its configuration",
			"aside":   "the store holds the Log twice, as a copy does that follows links: one of the two is empty, or older",
		}[step] // else a start does it, without anything being wrong
		return errDue
	}
	if err := s.settle(); err != nil && !errors.Is(err, errDue) && words == "" {
		return "", err
	}
	return words, nil
}

func (s Store) settle() error {
	if err := s.reclaim(); err != nil {
		return err
	}
	before, err := placeOf(s.engine())
	if err != nil {
		return err
	}
	data, err := placeOf(s.data())
	if err != nil {
		return err
	}
	if data != nothing && data != directory {
		return s.lost("%s is no directory", s.shown(s.data()))
	}
	switch before {
	case nothing:
		return s.settleMissing(data)
	case ourLink:
		if data == nothing {
			return s.lost("%s has gone, where its messages were", s.shown(s.data()))
		}
		return s.settleMeta(s.data())
	case directory, otherLink:
		if data == directory {
			return s.settleTwo(before)
		}
		if err := s.settleMeta(s.engine()); err != nil || before == otherLink {
			return err
		}
		return s.convert()
	}
	return s.lost("%s is no directory", s.shown(s.engine()))
}

// settleMissing settles a store in which the engine would find no Log.
func (s Store) settleMissing(data place) error {
	_, kept := s.readKept()
	if data == nothing {
		deleted := filepath.Join(s.streams(), "."+wire.LogName)
		switch p, err := placeOf(deleted); {
		case err != nil:
			return err
		case p == directory && bytesIn(deleted) > 0:
			return s.lost("%s holds messages: the engine was deleting the Log when it ended, and its next start would remove the rest", s.shown(deleted))
		case kept:
			return s.lost("%s has gone, where its messages were", s.shown(s.data()))
		}
		return nil
	}
	if !kept && !holds(s.data()) {
		return nil // a crash before the Log was created
	}
	if err := s.link(); err != nil {
		return err
	}
	s.warn("the link to the Log had gone, and was put back: everything behind it is there")
	return s.settleMeta(s.data())
}

// convert moves a Log from the engine's own directory behind the fence. It leaves a
// stream that is not a Log of ours in its place: the host refuses it.
func (s Store) convert() error {
	cfg, _, err := blocks.Stream(filepath.Join(s.engine(), engine.MessagesDir))
	if err != nil || !ours(cfg) {
		return nil //nolint:nilerr // it is none of ours
	}
	if err := s.at("exchange"); err != nil {
		return err
	}
	exchanged, err := exchange(s.engine(), s.data(), target)
	if err != nil || exchanged {
		return err
	}
	// Without the call: the data first, then its link.
	if err := os.Rename(s.engine(), s.data()); err != nil {
		s.debug("the Log stays in the engine's own directory", err)
		return nil
	}
	return s.link()
}

// link adds the link to the data.
func (s Store) link() error {
	if err := s.at("link"); err != nil {
		return err
	}
	if err := os.MkdirAll(s.streams(), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(target, s.engine()); err != nil {
		// On a file system without links the data itself works as well, only without the
		// fence.
		s.debug("the Log goes to the engine's own directory", err)
		if err := os.Rename(s.data(), s.engine()); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(s.streams()), syncDir(s.Dir))
}

func (s Store) warn(words string) {
	if s.Logger != nil {
		s.Logger.Warn(words, "store", s.shown(s.Dir))
	}
}

func (s Store) debug(words string, err error) {
	if s.Logger != nil {
		s.Logger.Debug(words, "store", s.shown(s.Dir), "err", err)
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
