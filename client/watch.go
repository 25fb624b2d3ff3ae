package client

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// connWatch gives a context for each life of a connection: it ends when the
// connection is lost.
type connWatch struct {
	nc     *nats.Conn
	status chan nats.Status
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards ctx and cancel, which change together
	ctx    context.Context
	cancel context.CancelFunc
}

func watchConn(nc *nats.Conn) *connWatch {
	w := &connWatch{
		nc:     nc,
		status: nc.StatusChanged(nats.RECONNECTING, nats.CLOSED),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.run()
	return w
}

// current is the context of the connection's present life.
func (w *connWatch) current() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ctx
}

func (w *connWatch) run() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case s, ok := <-w.status:
			w.mu.Lock()
			w.cancel()
			if !ok || s == nats.CLOSED {
				w.mu.Unlock()
				return
			}
			w.ctx, w.cancel = context.WithCancel(context.Background())
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
