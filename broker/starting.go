package broker

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/grace"
	"durablestream/internal/slowstart"
	"durablestream/internal/wire"
)

// StartingFile is inside Config.Dir while a host takes long to start, and after one that
// was killed meanwhile.
const StartingFile = "starting"

// StartingError is a host that is starting, and will answer when it has started.
type StartingError struct {
	PID   int        `json:"pid"`
	Since event.Time `json:"since"`
	Words string     `json:"words"` // what it does, and how far it is
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
	told := slowstart.Look(filepath.Join(dir, StartingFile))
	if told == nil {
		return nil
	}
	return &StartingError{PID: told.PID, Since: event.Milli(told.Since), Words: told.Words}
}

// startGrace is for what follows the start of the engine, at least.
const startGrace = 30 * time.Second

// estimate looks at the blocks that checkStore has read: those that were changed within
// the duplicate window hold what the engine reads one by one.
func (b *Broker) estimate() {
	window := cmp.Or(b.cfg.DuplicateWindow, wire.DefaultDuplicateWindow)
	if cfg, _, err := blocks.Stream(b.blocksDir()); err == nil {
		window = cfg.Duplicates
	}
	messages, recent := b.known.Messages(time.Now().Add(-window))
	b.telling.Reads(messages, recent, window)
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
			b.telling.HasRead()
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
