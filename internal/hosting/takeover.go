package hosting

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/wait"
)

// now returns the host, if it is in this process.
func (p *Process) now() *host {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// dial connects to the broker in this process, with its token. It returns nil if this
// process does not host.
func (p *Process) dial() (net.Conn, string, error) {
	now := p.now()
	if now == nil {
		return nil, "", nil
	}
	return now.broker.Dial()
}

// host makes one attempt to become the host: of the log that this process has opened, or,
// at first, of any.
func (p *Process) host(ctx context.Context, cfg Config) error {
	cfg.expect = p.log.expected()
	now, err := startHost(ctx, cfg)
	var missing *broker.MissingLogError
	if errors.As(err, &missing) {
		if gone := p.log.look(); gone != nil {
			return p.lose(gone)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var locked *broker.LockedError
	switch {
	case errors.As(err, &locked): // another process hosts
	case err != nil:
		p.failed = err
	case p.ended:
		return errors.Join(context.Canceled, now.stop())
	default:
		_ = p.log.is(cfg.expect) // as it was before
		p.current, p.failed = now, nil
		close(p.begun)
		p.watch.Go(func() {
			select {
			case <-p.over:
			case <-now.broker.Evicted():
				p.evicted(now)
			}
		})
	}
	return err
}

// evicted gives up a log whose directory is gone, or whose end is missing. This process
// does not create another one in its place: an operator must decide that.
func (p *Process) evicted(now *host) {
	p.mu.Lock()
	p.current, p.failed = nil, now.broker.WhyEvicted()
	p.ended = true
	p.mu.Unlock()
	if err := now.abandon(); err != nil {
		p.cfg.Logger.Warn("a host that was cut off did not end well", "err", err)
	}
	p.loseOnce.Do(func() { close(p.lost) })
}

// standBy takes over whenever the connection is lost and no other process has, until end.
func (p *Process) standBy(nc *nats.Conn) {
	if p.cfg.JoinOnly || p.cfg.NoTakeOver || p.cfg.Restoring {
		return
	}
	ctx, quit := context.WithCancel(context.Background())
	p.quit, p.done = quit, make(chan struct{})
	lost := nc.StatusChanged(nats.RECONNECTING)
	cfg := p.cfg
	cfg.takingOver, cfg.CheckMirror = true, false
	go func() {
		defer close(p.done)
		defer nc.RemoveStatusListener(lost)
		for p.now() == nil && ctx.Err() == nil {
			p.takeOver(ctx, cfg, nc)
			select {
			case <-ctx.Done():
			case _, ok := <-lost:
				if !ok { // the owner closed the connection
					return
				}
			}
		}
	}()
}

const (
	// lockRetry is how often, on average, a process whose host is gone tries the lock.
	lockRetry = 15 * time.Millisecond
	// hostRetry is how often it tries to host when it has the lock but cannot host.
	hostRetry = time.Second
)

// takeOver tries to host until it succeeds, or until the connection is back.
func (p *Process) takeOver(ctx context.Context, cfg Config, nc *nats.Conn) {
	told := ""
	for ctx.Err() == nil && !nc.IsConnected() && !nc.IsClosed() {
		pause := lockRetry/2 + rand.N(lockRetry)
		var locked *broker.LockedError
		err := p.host(ctx, cfg)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !errors.As(err, &locked) {
			pause = hostRetry
			if err.Error() != told {
				told = err.Error()
				cfg.Logger.Error("the host has gone, and this process cannot take over", "err", err)
			}
		}
		if wait.For(ctx, pause) != nil {
			return
		}
	}
}

// why returns the known reason why the log does not answer; nil if there is none.
func (p *Process) why() error {
	if p.now() != nil || p.cfg.onServers() {
		return nil
	}
	if gone := p.log.why(); gone != nil {
		return gone
	}
	a, err := address.Read(p.cfg.addressFile())
	if err == nil && address.Stopped(address.Holder(p.log.dir, a.PID)) {
		return &broker.StoppedError{PID: a.PID}
	}
	if starting := broker.Starting(p.cfg.HostDir); starting != nil {
		if address.Stopped(starting.PID) {
			return &broker.StoppedError{PID: starting.PID}
		}
		return starting
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return fmt.Errorf("this process cannot host: %w", p.failed)
	}
	return nil
}

// end stops to host, or to stand by. The process cannot host again.
func (p *Process) end() error {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	if p.over != nil {
		close(p.over)
		p.watch.Wait()
	}
	if p.quit != nil {
		p.quit()
		<-p.done
	}
	p.log.close()
	if now := p.now(); now != nil {
		return errors.Join(now.stop(), p.removeCopy())
	}
	return nil
}
