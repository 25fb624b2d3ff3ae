package logio

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// connWatch provides a context for each life of a connection: it ends when the connection
// is lost.
type connWatch struct {
	nc     *nats.Conn
	status chan nats.Status
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards the fields below, which change together
	ctx    context.Context
	cancel context.CancelFunc
	back   chan struct{} // closed when the connection is back, or permanently closed
}

func watchConn(nc *nats.Conn) *connWatch {
	w := &connWatch{
		nc:     nc,
		status: nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED, nats.CLOSED),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.back = make(chan struct{})
	go w.run()
	return w
}

// current is the context of the connection's present life.
func (w *connWatch) current() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ctx
}

// connected waits while there is no connection. It reports whether it had to wait and
// there is a connection now.
func (w *connWatch) connected(ctx context.Context) bool {
	w.mu.Lock()
	back := w.back
	w.mu.Unlock()
	// Read the status after taking the channel: a connection that returns in between has
	// closed the channel, or the status shows it.
	if w.nc.IsConnected() || w.nc.IsClosed() {
		return false
	}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.quit:
			return false
		case <-back:
		case <-tick.C: // a notice may be lost when there are many
		}
		if w.nc.IsConnected() {
			return true
		}
		if w.nc.IsClosed() {
			return false
		}
		w.mu.Lock()
		back = w.back
		w.mu.Unlock()
	}
}

const statusEvery = 250 * time.Millisecond

func (w *connWatch) run() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case s, ok := <-w.status:
			w.mu.Lock()
			if s == nats.RECONNECTING {
				w.cancel()
				w.ctx, w.cancel = context.WithCancel(context.Background())
			} else {
				close(w.back)
				w.back = make(chan struct{})
			}
			if !ok || s == nats.CLOSED {
				w.cancel()
				w.mu.Unlock()
				return
			}
			w.mu.Unlock()
		}
	}
}

func (w *connWatch) stop() {
	w.once.Do(func() {
		close(w.quit)
		<-w.done
		w.nc.RemoveStatusListener(w.status)
	})
}
