package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/blocks"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// The engine starts in milliseconds, but for two cases: after a crash it reads all blocks,
// and at every start it reads the id of each message that the duplicate window still
// holds, one by one. Five million events of the last ten minutes take it more than half a
// minute, which cannot be cut short: a start that is given up begins again at the first
// id, and whoever gives up after ten seconds never opens the log. So:
//
//   - the start of the engine is waited for as long as it takes. A deadline of Start's
//     context does not end it; a cancellation does;
//   - while it takes long, StartingFile is there and locked, and says how far it is. Who
//     waits for the host learns from it that the host is at work. The lock ends with the
//     process, and a file without a lock means nothing.

// StartingFile is inside Config.Dir while a host takes long to start, and after one that
// was killed meanwhile.
const StartingFile = "starting"

const (
	startTold  = time.Second      // from when on a start is told of
	startEvery = 10 * time.Second // how often Config.Waiting hears of it
	startGrace = 30 * time.Second // for what follows the start of the engine, at least
	// idTime is what the engine needs for an id of the duplicate window on an idle machine.
	idTime = 7 * time.Microsecond
)

// StartingError is a host that is starting, and will answer when it has started.
type StartingError struct {
	PID   int    `json:"pid"`
	Since int64  `json:"since"` // Unix ms
	Words string `json:"words"` // what it does, and how far it is
}

func (e *StartingError) Error() string {
	if e.PID == 0 {
		return "the host is starting: wait for it"
	}
	return fmt.Sprintf("the host, process %d, is starting: %s; wait for it", e.PID, e.Words)
}

// StoppedError says that the host does not run and has not ended either: it was
// stopped by a signal (SIGSTOP, Ctrl-Z) or by a debugger, and holds up everybody.
type StoppedError struct{ PID int }

func (e *StoppedError) Error() string {
	return fmt.Sprintf("the host, process %d, is stopped and holds up everybody: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and another takes over",
		e.PID, e.PID, e.PID)
}

// Starting tells of a host of dir that is starting and takes long; nil: there is none.
func Starting(dir string) *StartingError {
	path := filepath.Join(dir, StartingFile)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // there is none, or nothing that could be told of it
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil || free {
		_ = lock.Close() // it was only looked at
		return nil       //nolint:nilerr // the same
	}
	var e StartingError
	b, err := paths.ReadFile(path)
	if err != nil || json.Unmarshal(b, &e) != nil {
		return &StartingError{} // it is being written
	}
	return &e
}

// slowStart is a start that is under way.
type slowStart struct {
	b     *Broker
	began time.Time
	once  sync.Once
	quit  chan struct{}
	done  chan struct{}
}

// tellStart tells of a start that takes long, until end: when others can join, or there is
// nothing to join.
func (b *Broker) tellStart() *slowStart {
	s := &slowStart{b: b, began: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	if b.cfg.Cluster != nil { // it waits for others, mostly, and says so itself
		close(s.done)
		return s
	}
	go s.tell()
	return s
}

// end may be called more than once, and of none.
func (s *slowStart) end() {
	if s == nil {
		return
	}
	s.once.Do(func() { close(s.quit) })
	<-s.done
}

func (s *slowStart) tell() {
	defer close(s.done)
	next := time.NewTimer(startTold)
	defer next.Stop()
	select {
	case <-s.quit:
		return
	case <-next.C:
	}
	path := filepath.Join(s.b.cfg.Dir, StartingFile)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	tick := time.NewTicker(startTold)
	defer tick.Stop()
	var said time.Time
	for {
		words := s.words()
		if time.Since(said) >= startEvery {
			said = time.Now()
			s.b.cfg.Waiting("starting: " + words)
		}
		if !lock.Locked() {
			_, _ = lock.TryLock() // who looks shares it for a moment: then at the next tick
		}
		if b, err := json.Marshal(StartingError{os.Getpid(), s.began.UnixMilli(), words}); err == nil && lock.Locked() {
			_ = os.WriteFile(path, b, 0o600) // the lock alone says the most of it
		}
		select {
		case <-s.quit:
			_ = os.Remove(path) // without a lock it means nothing
			_ = lock.Close()
			return
		case <-tick.C:
		}
	}
}

// words say what the engine has to read, and how far it is as far as that can be known:
// it says nothing itself.
func (s *slowStart) words() string {
	so := time.Since(s.began).Round(time.Second)
	w := s.b.work.Load()
	if w == nil {
		return fmt.Sprintf("it reads the log's files; %s so far", so)
	}
	if w.done.Load() {
		return fmt.Sprintf("the engine has read the log, and the host looks at it; %s so far", so)
	}
	words := fmt.Sprintf("the engine reads the log, %d events and guards", w.messages)
	if w.recent > 0 {
		words += fmt.Sprintf(", and the id of each of the some %d of the last %s, which takes it some %s on an idle machine",
			w.recent, w.window, max(time.Second, (time.Duration(w.recent)*idTime).Round(time.Second)))
	}
	return words + fmt.Sprintf("; %s so far", so)
}

// work is what the engine reads when it starts.
type work struct {
	messages, recent uint64
	window           time.Duration
	done             atomic.Bool
}

// estimate looks at the blocks that checkStore has read: those that were changed within
// the duplicate window hold what the engine reads one by one.
func (b *Broker) estimate() {
	w := &work{window: cmp.Or(b.cfg.DuplicateWindow, wire.DefaultDuplicateWindow)}
	if cfg, _, err := blocks.Stream(b.blocksDir()); err == nil {
		w.window = cfg.Duplicates
	}
	w.messages, w.recent = b.known.Messages(time.Now().Add(-w.window))
	b.work.Store(w)
}

// runEngine starts the server, for as long as that takes. When ctx is canceled it returns
// at once, and the server, which cannot be stopped while it starts, is stopped behind it:
// until then the lock stays, and the store open.
func (b *Broker) runEngine(ctx context.Context, s *server.Server) error {
	if grace.Canceled(ctx) {
		return fmt.Errorf("broker: the engine was not started: %w", ctx.Err())
	}
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start()
	}()
	over := ctx.Done()
	for {
		select {
		case <-started:
			b.server = s
			b.work.Load().done.Store(true)
			return nil
		case <-over:
			over = nil
		}
		if !grace.Canceled(ctx) {
			continue
		}
		left := &Broker{cfg: b.cfg, server: s, store: b.store, storeInfo: b.storeInfo, locks: b.locks, telling: b.telling}
		b.store, b.locks, b.telling = nil, nil, nil
		go func() {
			<-started
			if err := left.Stop(context.Background()); err != nil {
				left.cfg.Logger.Warn("a start that was canceled did not end well", "err", err)
			}
		}()
		return fmt.Errorf("broker: the start was canceled: %w", ctx.Err())
	}
}
