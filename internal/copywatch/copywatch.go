// Package copywatch looks whether a node's engine uses the node's copy of the Log.
package copywatch

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/event"
	"durablestream/internal/wire"
)

// State names the fault in the engine's use of this node's copy of the Log.
type State struct {
	Why string // the engine's words; "": nothing is wrong
	// Out is true where the engine has not opened the copy at all. It leaves the files as
	// they are, and copies nothing from the other nodes.
	Out bool
}

// Watch looks whether the engine uses this node's copy of the Log. The Log's leader may
// call a copy current that the node itself has not opened, so each node asks its own engine.
type Watch struct {
	Node
	state atomic.Pointer[State]
	bad   int            // looks in a row that found the same copy no better
	last  event.Sequence // of the copy, at the look before
	quit  chan struct{}
	done  chan struct{}
}

// Node is the part of a node that the watch uses.
type Node struct {
	Server    *server.Server
	Switching *sync.RWMutex // written while the server's JetStream is switched
	Account   string        // of the Log
	Logger    *slog.Logger
	Words     func(State) string // for an operator
}

const (
	tickEvery = time.Second
	// looks is how many looks in a row must find a copy that makes no progress. After a
	// start, and while a leader is chosen, the engine takes some seconds.
	looks = 15
)

// Start watches over a node's copy.
func Start(node Node) *Watch {
	w := &Watch{Node: node, quit: make(chan struct{}), done: make(chan struct{})}
	w.state.Store(&State{})
	go func() {
		defer close(w.done)
		for tick := time.NewTicker(tickEvery); ; {
			select {
			case <-w.quit:
				tick.Stop()
				return
			case <-tick.C:
				w.look()
			}
		}
	}()
	return w
}

// State is the result of the last look.
func (w *Watch) State() State { return *w.state.Load() }

// Stop ends it.
func (w *Watch) Stop() {
	close(w.quit)
	<-w.done
}

func (w *Watch) look() {
	now, known := w.ask()
	if !known {
		return
	}
	was := w.state.Load()
	if now.Why == "" {
		w.bad = 0
		if was.Why != "" {
			w.Logger.Info("the engine uses this node's copy of the log again")
			w.state.Store(&State{})
		}
		return
	}
	if w.bad++; w.bad < looks || *was == now {
		return
	}
	w.Logger.Error(w.Words(now))
	w.state.Store(&now)
}

// ask asks the engine about the copy. One that makes progress is not bad. Without a leader of
// the meta group, nothing is known.
func (w *Watch) ask() (now State, known bool) {
	w.Switching.RLock()
	defer w.Switching.RUnlock()
	if !w.Server.JetStreamEnabled() {
		return now, true // the disk watch has taken the node out, and says so
	}
	h := w.Server.Healthz(&server.HealthzOptions{Account: w.Account, Stream: wire.LogName, Details: true})
	for _, e := range h.Errors {
		if e.Type == server.HealthzErrorStream {
			now.Why = e.Error
		}
	}
	if now.Why == "" {
		return now, len(h.Errors) == 0
	}
	z, err := w.Server.Jsz(&server.JSzOptions{Account: w.Account, Streams: true})
	if err != nil {
		return State{}, false
	}
	now.Out = true
	for _, a := range z.AccountDetails {
		for _, s := range a.Streams {
			if s.Name != wire.LogName {
				continue
			}
			now.Out = false
			last := event.Sequence(s.State.LastSeq)
			if last != w.last || s.Cluster == nil || s.Cluster.Leader == "" { // it catches up, or all wait for a leader
				w.last = last
				return State{}, true
			}
		}
	}
	return now, true
}
