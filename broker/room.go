package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// Lack is what keeps the engine from writing its next block file.
type Lack string

// What a disk, or a process, may lack.
const (
	LackNothing  = Lack(room.LackNothing)
	LackSpace    = Lack(room.LackSpace)    // bytes
	LackInodes   = Lack(room.LackInodes)   // the file system takes no more files
	LackQuota    = Lack(room.LackQuota)    // of the user or the project
	LackFileSize = Lack(room.LackFileSize) // RLIMIT_FSIZE of this process is under a block's size
	LackWriting  = Lack(room.LackWriting)  // the file system or the directory is read-only
	LackBatch    = Lack(room.LackBatch)    // the rest of the batch with a part of which the Log ends
)

// ProbeFile is made in the stream's directory, where the engine reads nothing but the
// names that it knows.
const ProbeFile = room.ProbeFile

// streamDir is where the engine writes the Log; the store, while there is none yet. It leads
// by the open directory: another's in its place is not written to.
func (b *Broker) streamDir() string {
	store := pathOf(b.store)
	dir := filepath.Dir(blocks.Dir(store, b.cfg.account()))
	if _, err := os.Stat(dir); err != nil {
		return store
	}
	return dir
}

// UnwritableError is a log in whose directory no host can run, because it, or its disk,
// cannot be written.
type UnwritableError struct {
	Dir string // of the host
	Err error  // of the attempt to write there
}

func (e *UnwritableError) Error() string {
	return fmt.Sprintf("%s; commands that read, such as query, resume and status, still do", e.Brief())
}

// Brief is Error without what still works.
func (e *UnwritableError) Brief() string {
	why := e.Err
	var path *os.PathError
	if errors.As(why, &path) {
		why = path.Err // the path is a trial's
	}
	return fmt.Sprintf("the log in %s cannot be written (%v): no host can run there, and nothing can be appended", e.Dir, why)
}

// Unwrap gives the error of the attempt.
func (e *UnwritableError) Unwrap() error { return e.Err }

// Unwritable returns an *UnwritableError where a host directory with a store cannot be
// written, which it tries.
func Unwritable(dir string) error {
	store := filepath.Join(dir, StoreDir)
	if _, err := os.Stat(store); err != nil {
		return nil //nolint:nilerr // there is nothing that could be read either
	}
	dirs, _ := blocks.Find(store) // none: the engine has not begun
	for _, msgs := range dirs {
		dirs = append(dirs, filepath.Dir(msgs))
	}
	for _, d := range append(dirs, dir, store) {
		err := room.Try(d)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission) {
			return &UnwritableError{dir, err}
		}
	}
	return nil
}

// cannotHost puts the reason into an error of Start where it is the directory: the engine
// says something else, or nothing.
func cannotHost(dir string, err error) error {
	if err == nil || explained(err) {
		return err
	}
	if unwritable := Unwritable(dir); unwritable != nil {
		return fmt.Errorf("broker: %w", unwritable)
	}
	if short := Shortage(dir); short != nil {
		return short
	}
	return err
}

// explained reports an error that says what is wrong, whether or not the directory can be
// written.
func explained(err error) bool {
	var locked *LockedError
	var damaged *DamagedError
	var managed *ManagedError
	var missing *MissingLogError
	var link *paths.LinkError
	var short *ShortageError
	var none *NoLogError
	return errors.As(err, &locked) || errors.As(err, &damaged) || errors.As(err, &managed) || errors.As(err, &missing) || errors.As(err, &link) || errors.As(err, &short) || errors.As(err, &none) ||
		errors.Is(err, ErrRestoring)
}

// Probes are the patterns, in a host directory, of what a crash leaves of a probe: empty
// files.
func Probes() []string {
	stream := filepath.Join(StoreDir, engine.StoreDir, "*", engine.StreamsDir, wire.LogName)
	var out []string
	for _, dir := range []string{"", StoreDir, stream, filepath.Join(stream, engine.MessagesDir)} {
		out = append(out, filepath.Join(dir, ProbeFile+"*"))
	}
	return out
}

// removeProbes removes what a crash has left of a probe. One that cannot be removed harms
// nobody.
func (b *Broker) removeProbes() {
	for _, pattern := range Probes() {
		left, _ := blocks.Glob(b.cfg.Dir, pattern) // the patterns are right
		for _, path := range left {
			_ = os.Remove(path)
		}
	}
}
