package durablestream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/readcopy"
)

// hosting is a process's readiness to host: the host, while this process is the
// one, and what takes over when the host of the moment has gone.
//
// Safety is the lock's alone: whoever has it hosts, and a process that dies in any
// way, or stops, gives it up. Liveness: a host that goes ends every connection to
// it, so each process that joined tries the lock at once and goes on trying until
// its connection is back; one of them gets it. A host that is stopped (SIGSTOP)
// keeps both, and everybody waits: why tells of it.
type hosting struct {
	cfg   Config
	begun chan struct{} // closed when this process begins to host
	lost  chan struct{} // closed when its directory was taken away
	log   joined

	loseOnce sync.Once
	over     chan struct{} // closed by end
	watch    sync.WaitGroup

	mu      sync.Mutex // guards these: the process hosts, or may begin to, until it is ended
	current *host      // nil while this process does not host
	failed  error      // why it could not host when it last tried
	ended   bool
	copy    *readcopy.Copy // that current hosts; nil: the log itself
	copyOf  *broker.UnwritableError

	quit context.CancelFunc // ends standBy; nil if it never began
	done chan struct{}
}

func newHosting(cfg Config) *hosting {
	h := &hosting{cfg: cfg, begun: make(chan struct{}), lost: make(chan struct{}), over: make(chan struct{})}
	h.log.dir = filepath.Join(cfg.Dir, HostDir)
	return h
}

func (h *hosting) addressFile() string {
	return broker.AddressPath(filepath.Join(h.cfg.Dir, HostDir))
}

// now is the host, if this process is the one.
func (h *hosting) now() *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// dial connects to the broker in this process, with its token; nil while there is
// none.
func (h *hosting) dial() (net.Conn, string, error) {
	now := h.now()
	if now == nil {
		return nil, "", nil
	}
	return now.broker.Dial()
}

// host tries once to become the host: of the log that this process has opened, or, at
// first, of any.
func (h *hosting) host(ctx context.Context, cfg Config) error {
	cfg.expect = h.log.expected()
	now, err := startHost(ctx, cfg)
	var missing *broker.MissingLogError
	if errors.As(err, &missing) {
		if gone := h.log.look(); gone != nil {
			return h.lose(gone)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var locked *broker.LockedError
	switch {
	case errors.As(err, &locked): // another process does
	case err != nil:
		h.failed = err
	case h.ended:
		return errors.Join(context.Canceled, now.stop())
	default:
		_ = h.log.is(cfg.expect) // as it was before
		h.current, h.failed = now, nil
		close(h.begun)
		h.watch.Go(func() {
			select {
			case <-h.over:
			case <-now.broker.Evicted():
				h.evicted(now)
			}
		})
	}
	return err
}

// evicted gives up a log whose directory is no longer there, or whose end is not. This
// process does not begin another one in its place: that is for somebody who knows.
func (h *hosting) evicted(now *host) {
	h.mu.Lock()
	h.current, h.failed = nil, now.broker.WhyEvicted()
	h.ended = true
	h.mu.Unlock()
	if err := now.abandon(); err != nil {
		h.cfg.Logger.Warn("a host that was cut off did not end well", "err", err)
	}
	h.loseOnce.Do(func() { close(h.lost) })
}

// standBy takes over whenever the connection is lost and nobody else has, until
// end.
func (h *hosting) standBy(nc *nats.Conn) {
	if h.cfg.JoinOnly || h.cfg.NoTakeOver || h.cfg.Restoring {
		return
	}
	ctx, quit := context.WithCancel(context.Background())
	h.quit, h.done = quit, make(chan struct{})
	lost := nc.StatusChanged(nats.RECONNECTING)
	cfg := h.cfg
	cfg.takingOver, cfg.CheckMirror = true, false
	go func() {
		defer close(h.done)
		defer nc.RemoveStatusListener(lost)
		for h.now() == nil && ctx.Err() == nil {
			h.takeOver(ctx, cfg, nc)
			select {
			case <-ctx.Done():
			case _, ok := <-lost:
				if !ok { // the connection was closed by its owner
					return
				}
			}
		}
	}()
}

const (
	// lockRetry is how often a process whose host has gone tries the lock, on
	// average.
	lockRetry = 15 * time.Millisecond
	// hostRetry is how often it tries to host where something else is in the way.
	hostRetry = time.Second
)

// takeOver tries to host until it does, or until the connection is back.
func (h *hosting) takeOver(ctx context.Context, cfg Config, nc *nats.Conn) {
	told := ""
	for ctx.Err() == nil && !nc.IsConnected() && !nc.IsClosed() {
		wait := lockRetry/2 + rand.N(lockRetry)
		var locked *broker.LockedError
		err := h.host(ctx, cfg)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !errors.As(err, &locked) {
			wait = hostRetry
			if err.Error() != told {
				told = err.Error()
				cfg.Logger.Error("the host has gone, and this process cannot take over", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// why tells what is known of why the log does not answer; nil if nothing is.
func (h *hosting) why() error {
	if h.now() != nil || len(h.cfg.Servers) > 0 {
		return nil
	}
	if gone := h.log.why(); gone != nil {
		return gone
	}
	a, err := address.Read(h.addressFile())
	if err == nil && address.Stopped(address.Holder(h.log.dir, a.PID)) {
		return &StoppedError{a.PID}
	}
	if starting := broker.Starting(filepath.Join(h.cfg.Dir, HostDir)); starting != nil {
		if address.Stopped(starting.PID) {
			return &StoppedError{starting.PID}
		}
		return starting
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return fmt.Errorf("this process cannot host: %w", h.failed)
	}
	return nil
}

// StoppedError says that the host does not run and has not ended either: it was
// stopped by a signal (SIGSTOP, Ctrl-Z) or by a debugger, and holds up everybody.
type StoppedError struct{ PID int }

func (e *StoppedError) Error() string {
	return fmt.Sprintf("the host, process %d, is stopped and holds up everybody: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and another takes over",
		e.PID, e.PID, e.PID)
}

// end stops to host, or to stand by. The process cannot host again.
func (h *hosting) end() error {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	if h.over != nil {
		close(h.over)
		h.watch.Wait()
	}
	if h.quit != nil {
		h.quit()
		<-h.done
	}
	h.log.close()
	if now := h.now(); now != nil {
		return errors.Join(now.stop(), h.removeCopy())
	}
	return nil
}
