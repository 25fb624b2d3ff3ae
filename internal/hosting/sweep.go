package hosting

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"durablestream/client"
	"durablestream/internal/sweeper"
	"durablestream/internal/wait"
)

// sweeping runs the sweeper of a host. The zero value runs none.
type sweeping struct {
	cfg   sweeper.Config
	fault atomic.Pointer[error] // the error that stopped it; nil: it runs, or there is none

	stop context.CancelFunc // nil before start
	done chan error
}

// start enforces the deadlines, until end. With overdue it first enforces those that have
// passed, so that nobody joins before.
func (s *sweeping) start(ctx context.Context, overdue bool) error {
	if overdue {
		_, err := sweeper.Sweep(ctx, s.cfg)
		var damage *client.DamageError
		if errors.As(err, &damage) { // an alarm: intact events can still be read, and new ones appended
			s.fault.Store(&err)
		} else if err != nil {
			return err
		}
	}
	ctx, s.stop = context.WithCancel(context.Background())
	s.done = make(chan error, 1)
	go func() { s.done <- s.run(ctx) }()
	return nil
}

// sweepAgain is how long the sweeper waits after it met damage in the log, which somebody
// repairs, perhaps on another node.
const sweepAgain = 10 * time.Second

// run runs the sweeper until ctx ends. An error that stops the sweeper is an alarm, until
// the sweeper continues.
func (s *sweeping) run(ctx context.Context) error {
	for {
		err := s.fault.Load()
		if err == nil {
			fault := sweeper.Run(ctx, s.cfg)
			if fault == nil {
				return nil
			}
			s.fault.Store(&fault)
			err = &fault
		}
		var damage *client.DamageError
		if !errors.As(*err, &damage) {
			return *err
		}
		if wait.For(ctx, sweepAgain) != nil {
			return nil //nolint:nilerr // the end of ctx is no failure
		}
		if _, fault := sweeper.Sweep(ctx, s.cfg); fault == nil {
			s.fault.Store(nil)
		}
	}
}

func (s *sweeping) end() error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	return <-s.done
}

// why is the error that stopped the sweeper; nil while it runs.
func (s *sweeping) why() error {
	if err := s.fault.Load(); err != nil {
		return *err
	}
	return nil
}
