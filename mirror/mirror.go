// Package mirror keeps the canonical JSONL file equal to the Log, checks that it
// is, and rebuilds a Log from it.
//
// # The files
//
// In the project's directory (.opencode) the active file, durable_stream.jsonl, is
// always the newest; older ones are durable_stream.seq-<first>.jsonl, where <first>
// is the Sequence of their first line. Together, in this order, they hold one line
// for each event of the Log. Guards make no line: they show as gaps in seq.
//
// # The line
//
//	{"seq":N,<the stored body without its braces>,"chain":"<64 lower hex>"}
//
// A line is spliced from the bytes of the stored message, never decoded and encoded
// again, so the body can be had back as it is. chain is SHA-256 over the previous
// line's chain (its 64 hexadecimal characters; 64 zeros before the first line of a
// Log) and this line's bytes before `,"chain":`. It runs on from file to file.
//
// So the content of the files is a function of the Log alone: whatever a crash
// takes away from their end is written again with the same bytes, and a reader
// that saw half a line may go on where it stopped.
//
// # What a crash leaves behind
//
// One batch is written at a time, and synced before the next begins. After a crash
// all but the last batch is whole; of the last batch there may be nothing, all, or
// a part: cut off inside a line, or with pages that were never written and read as
// zeros. Resume cuts that part (a JSON line holds no zero byte, and no line without
// its end counts) and writes it again from the Log. writer.go argues rotation.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/paths"
)

// Config says which Log is mirrored where. Client is required; the zero value of
// every other field works.
type Config struct {
	// Client reads the Log.
	Client *client.Client
	// Dir holds the mirror's files. Default .opencode.
	Dir string
	// MaxBytes is the size, in bytes, from which on the next batch goes to a new
	// file: a file may be larger by one batch. Default 64 MiB; negative: no limit.
	MaxBytes int64
	// NoDaily turns off the new file for a new day (UTC). Default: on.
	NoDaily bool
	// Drain is how long Run goes on after its context has ended, to write what the
	// Log held at that moment. Default 2 s; negative: not at all.
	Drain time.Duration
	// VerifyWait is how long Verify waits for a file that has stopped to grow and
	// lacks lines, since a live writer may be behind. Default 2 s; negative: not at
	// all.
	VerifyWait time.Duration
	// Logger hears of what is set aside and of failed writes. Default: discarded.
	Logger *slog.Logger
	// Progress, if not nil, is called after each batch, after each failed write,
	// and when the Log's position moved without an event. It must not block.
	Progress func(Progress)

	now        func() time.Time      // the tests' clock
	step       func(op string) error // called before write, fsync, rename, create, dirsync
	batchBytes int                   // the tests' size of a batch
}

// Progress is how far the mirror is.
type Progress struct {
	// Seq is the position in the Log up to which the files hold every event,
	// synced. The last line's own seq may be lower: guards make no line.
	Seq event.Sequence
	// Lines counts the lines written by this Run.
	Lines uint64
	// File is the active file.
	File string
	// Lag is how long the last batch's first event took from being stored in the
	// Log until it was synced in the file. While Err is set: how long it has waited.
	Lag time.Duration
	// Pending is how many messages the Log held beyond Seq when they were counted.
	Pending uint64
	// SetAside counts the messages on the events' subjects that are no events.
	SetAside uint64
	// Err is why nothing can be written at the moment, such as a full disk; it is
	// tried again. Nil: all is well.
	Err error
	// Since is when Err became what it is: failing since, or well since.
	Since time.Time
}

// The defaults of Config.
const (
	DefaultDir        = ".opencode"
	DefaultMaxBytes   = 64 << 20
	DefaultDrain      = 2 * time.Second
	DefaultVerifyWait = 2 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Drain == 0 {
		c.Drain = DefaultDrain
	}
	if c.VerifyWait == 0 {
		c.VerifyWait = DefaultVerifyWait
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.batchBytes == 0 {
		c.batchBytes = batchBytes
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.step == nil {
		c.step = failpoint
	}
	return c
}

// Run keeps the files equal to the Log until ctx ends; it then writes what the Log
// held at that moment, for at most Config.Drain, and returns nil.
//
// It stops with an error, and leaves the files as they are, when it is not safe to
// go on: *BusyError, *DamageError, *AheadError, *ForeignError, *OriginalError for
// the files; *GapError for a Log that has lost messages; client.ErrClosed and
// client.ErrNoLog where there is nothing left to read. Disk errors do not stop it:
// it reports them through Config.Progress and tries again until they are gone. If
// they last beyond ctx and Drain, Run returns the last one.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	// Also when ctx has ended already: what the Log holds by then is written.
	lock, err := takeLock(context.WithoutCancel(ctx), cfg.Dir)
	if err == nil {
		// The deferred call keeps the lock's *os.File reachable until Run returns:
		// were it not, the garbage collector would close it, and free the lock.
		defer lock.Unlock() //nolint:errcheck // the lock goes with the process at the latest
		if err := ignore(cfg.Dir); err != nil {
			cfg.Logger.Warn("mirror: git is not told to leave the log alone", "err", err)
		}
		err = newRunner(cfg).run(ctx)
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		return fmt.Errorf("mirror: %w", err)
	}
	return nil
}

// Check makes the checks with which Run begins, and changes nothing: whether the
// files are whole where resume looks at them, and belong to this Log. A host calls
// it before it opens for business. Its errors are those of Run; *BusyError means
// that another process writes the mirror, which has checked it then.
func Check(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	err := busy(cfg.Dir)
	if err == nil {
		var e ends
		if e, err = findEnds(cfg.Dir); err == nil {
			_, err = e.check(ctx, cfg.Client)
		}
	}
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return nil
}

// hostDir is the broker's directory beside the mirror, where the lock lies.
const hostDir = "durable_stream"

func lockPath(dir string) string { return filepath.Join(dir, hostDir, "mirror.lock") }

// lockPatience is long enough for a Check to let go of the lock, and too short to
// wait for another writer.
const lockPatience = 100 * time.Millisecond

func takeLock(ctx context.Context, dir string) (*flock.Flock, error) {
	path := lockPath(dir)
	if err := errors.Join(paths.MakeDir(dir), paths.MakeDir(filepath.Dir(path)), paths.NoLink(path)); err != nil {
		return nil, fmt.Errorf("cannot make the directory for the lock: %w", err)
	}
	lock := flock.New(path, flock.SetPermissions(0o600))
	brief, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	ok, err := lock.TryLockContext(brief, 5*time.Millisecond)
	switch {
	case ok:
		// A hard link (cp -al) would bring this log's lines into another one's file.
		if _, err := paths.Own(filepath.Join(dir, ActiveName)); err != nil {
			return nil, errors.Join(err, lock.Unlock())
		}
		return lock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && brief.Err() == nil:
		return nil, fmt.Errorf("cannot lock the mirror: %w", err)
	}
	return nil, &BusyError{path}
}

// busy reports a *BusyError where a writer holds the lock. It makes no file.
func busy(dir string) error {
	path := lockPath(dir)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := paths.NoLink(path); err != nil {
		return fmt.Errorf("cannot look at the mirror's lock: %w", err)
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryRLock()
	switch {
	case err != nil:
		return fmt.Errorf("cannot look at the mirror's lock: %w", err)
	case !ok:
		return &BusyError{path}
	}
	return lock.Unlock()
}
