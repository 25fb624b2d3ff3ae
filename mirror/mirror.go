// Package mirror keeps the canonical JSONL file equal to the Log, verifies that they are
// equal, and rebuilds a Log from the file.
//
// # The files
//
// In the project's directory (.opencode) the active file, durable_stream.jsonl, is always
// the newest; older ones are durable_stream.seq-<first>.jsonl, where <first> is the
// Sequence of their first line. Together, in this order, they hold one line for each
// event of the Log. Guards have no line: they show as gaps in seq.
//
// # The line
//
//	{"seq":N,<the stored body without its braces>,"chain":"<64 lower hex>"}
//
// A line is spliced from the bytes of the stored message, never decoded and encoded
// again, so that the exact body can be recovered. chain is SHA-256 over the previous
// line's chain (its 64 hexadecimal characters; 64 zeros before the first line of a Log)
// and this line's bytes before `,"chain":`. It continues from file to file.
//
// So the content of the files is a function of the Log alone: after a crash, Run writes
// the missing end again with the same bytes, and a reader that saw half a line may
// continue where it stopped.
//
// # What a crash leaves behind
//
// Run writes one batch at a time, and syncs it before the next one. After a crash all
// batches but the last are whole; the last batch may be missing, whole, or partial: cut
// off inside a line, or with pages that were never written and read as zeros. The next
// Run cuts a partial batch off (a JSON line holds no zero byte, and a line without its
// end does not count) and writes it again from the Log. writer.go argues the safety of
// rotation.
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

// Config names the Log and the place of its mirror. Client is required; the zero value of
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
	// Drain bounds how long Run continues after its context has ended, to write the
	// events that the Log held at that moment. Default 2 s; negative: not at all.
	Drain time.Duration
	// VerifyWait is how long Verify waits for a file that lacks lines and no longer
	// grows, since a live writer may be behind. Default 2 s; negative: not at all.
	VerifyWait time.Duration
	// Logger receives messages that were set aside, and failed writes. Default:
	// discarded.
	Logger *slog.Logger
	// Progress, if not nil, is called after each batch, after each failed write,
	// and when the Log's position moved without an event. It must not block.
	Progress func(Progress)

	now        func() time.Time      // the tests' clock
	step       func(op string) error // called before write, fsync, rename, create, dirsync
	batchBytes int                   // the tests' size of a batch
}

// Progress is the state of a running mirror.
type Progress struct {
	// Seq is the position in the Log up to which the files hold every event,
	// synced. The last line's own seq may be lower: guards make no line.
	Seq event.Sequence
	// Lines counts the lines written by this Run.
	Lines uint64
	// File is the active file.
	File string
	// Lag is the time from the moment the Log stored the last batch's first event until
	// the file was synced with it. While Err is set: the time that it has waited so far.
	Lag time.Duration
	// Pending is how many messages the Log held beyond Seq when they were counted.
	Pending uint64
	// SetAside counts messages on the events' subjects that are not events.
	SetAside uint64
	// Err is the reason that Run cannot write at the moment, such as a full disk; Run
	// retries. Nil: Run can write.
	Err error
	// Since is the time at which Err last became nil or not nil.
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

// Run keeps the files equal to the Log until ctx ends; it then writes the events that the
// Log held at that moment, for at most Config.Drain, and returns nil.
//
// It stops with an error, and does not change the files, when it is not safe to continue:
// *BusyError, *DamageError, *AheadError, *ForeignError, *OriginalError for the files;
// *GapError for a Log that has lost messages; client.ErrClosed and client.ErrNoLog if
// there is no Log left to read. Disk errors do not stop it: it reports them through
// Config.Progress and retries until they are gone. If they last beyond ctx and Drain, Run
// returns the last one.
//
// Calls of Run for one directory do not overlap: a lock lets one write, and the others, of
// this process or another, return a *BusyError. Verify and Check may run beside Run, and
// calls of Run for different directories may overlap.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	// Also if ctx has ended already: Run then writes the events that the Log holds.
	lock, err := takeLock(context.WithoutCancel(ctx), cfg.Dir)
	if err == nil {
		// The deferred call keeps the lock's *os.File reachable until Run returns:
		// were it not, the garbage collector would close it, and free the lock.
		defer lock.Unlock() //nolint:errcheck // the lock goes with the process at the latest
		if err := paths.Ignore(cfg.Dir); err != nil {
			cfg.Logger.Warn("mirror: git is not told to leave the log alone", "err", err)
		}
		err = newRunner(cfg).run(ctx)
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		return fmt.Errorf("mirror: %w", err)
	}
	return nil
}

// Check performs the checks with which Run begins, and changes nothing: that the ends of
// the files are whole, and that they belong to this Log. A host calls it before it
// accepts connections. Its errors are those of Run; *BusyError means that another process
// writes the mirror, and so has checked it.
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

// CheckNoLog is Check where there is no Log yet: a mirror with events, in dir, is an
// *AheadError.
func CheckNoLog(dir string) error {
	e, err := findEnds(dir)
	if err == nil && e.newest != nil {
		err = &AheadError{File: e.newest.File, FileSeq: e.newest.Recorded.Seq}
	}
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return nil
}

// hostDir is the broker's directory beside the mirror, where the lock lies.
const hostDir = "durable_stream"

func lockPath(dir string) string { return filepath.Join(dir, hostDir, "mirror.lock") }

// lockPatience is long enough for a Check to release the lock, and too short to wait for
// another writer.
const lockPatience = 100 * time.Millisecond

func takeLock(ctx context.Context, dir string) (*flock.Flock, error) {
	path := lockPath(dir)
	err := paths.MakeDir(dir)
	if err == nil { // a link is not followed
		err = paths.MakeHostDir(filepath.Dir(path))
	}
	if err == nil {
		err = paths.NoLink(path)
	}
	if err != nil {
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

// busy returns a *BusyError if a writer holds the lock. It creates no file.
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
