package broker

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/event"
	"durablestream/internal/wire"
)

// CopyState is what is wrong with the engine's use of this node's copy of the Log.
type CopyState struct {
	Why string // the engine's words; "": nothing is wrong
	// Out is true where the engine has not opened the copy at all. It leaves the files as
	// they are, and copies nothing from the other nodes.
	Out bool
}

// copyWatch looks whether the engine uses this node's copy of the Log. The Log's leader may
// call a copy current that the node itself has not opened, so each node asks its own engine.
type copyWatch struct {
	b     *Broker
	state atomic.Pointer[CopyState]
	bad   int            // looks in a row that found the same copy no better
	last  event.Sequence // of the copy, at the look before
	quit  chan struct{}
	done  chan struct{}
}

const (
	copyTick = time.Second
	// copyLooks is how many looks in a row must find a copy that makes no progress. After a
	// start, and while a leader is chosen, the engine takes some seconds.
	copyLooks = 15
)

// Copy is what is wrong with this node's copy of the Log; nothing on a lone host.
func (b *Broker) Copy() CopyState {
	if b.copy == nil {
		return CopyState{}
	}
	return *b.copy.state.Load()
}

// watchCopy watches over a node's copy. On a lone host Stuck does.
func watchCopy(b *Broker) *copyWatch {
	w := &copyWatch{b: b, quit: make(chan struct{}), done: make(chan struct{})}
	w.state.Store(&CopyState{})
	go func() {
		defer close(w.done)
		for tick := time.NewTicker(copyTick); ; {
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

func (w *copyWatch) stop() {
	close(w.quit)
	<-w.done
}

func (w *copyWatch) look() {
	now, known := w.ask()
	if !known {
		return
	}
	was := w.state.Load()
	if now.Why == "" {
		w.bad = 0
		if was.Why != "" {
			w.b.cfg.Logger.Info("the engine uses this node's copy of the log again")
			w.state.Store(&CopyState{})
		}
		return
	}
	if w.bad++; w.bad < copyLooks || *was == now {
		return
	}
	w.b.cfg.Logger.Error((&CopyError{w.b.cfg.Dir, now}).Error())
	w.state.Store(&now)
}

// ask asks the engine about the copy. One that makes progress is not bad. Without a leader of
// the meta group, nothing is known.
func (w *copyWatch) ask() (now CopyState, known bool) {
	b := w.b
	b.switching.RLock()
	defer b.switching.RUnlock()
	if !b.server.JetStreamEnabled() {
		return now, true // the disk watch has taken the node out, and says so
	}
	h := b.server.Healthz(&server.HealthzOptions{Account: b.cfg.account(), Stream: wire.LogName, Details: true})
	for _, e := range h.Errors {
		if e.Type == server.HealthzErrorStream {
			now.Why = e.Error
		}
	}
	if now.Why == "" {
		return now, len(h.Errors) == 0
	}
	z, err := b.server.Jsz(&server.JSzOptions{Account: b.cfg.account(), Streams: true})
	if err != nil {
		return CopyState{}, false
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
				return CopyState{}, true
			}
		}
	}
	return now, true
}

// CopyError is a node's copy of the Log that the engine does not use.
type CopyError struct {
	Dir string // of the host
	CopyState
}

func (e *CopyError) Error() string {
	if !e.Out {
		return fmt.Sprintf("the engine does not keep up this node's copy of the log (%s): look at the node's disk; 'dstream --dir %s doctor' compares the copy with those of the others", e.Why, filepath.Dir(e.Dir))
	}
	return fmt.Sprintf("the engine has not opened this node's copy of the log (%s): the files are left as they are, the other nodes go on, and this one copies nothing from them; "+
		"'dstream --dir %s doctor --fix' moves the copy aside once a majority of the others holds the log whole, and the node copies it anew when it is started again", e.Why, filepath.Dir(e.Dir))
}

// UnreadableCopyError is a node's copy of the Log that cannot be read, so that the node does
// not start: the engine would leave it out.
type UnreadableCopyError struct {
	Dir string // of the host
	Err error
}

// Unwrap gives the error of the file.
func (e *UnreadableCopyError) Unwrap() error { return e.Err }

func (e *UnreadableCopyError) Error() string {
	return fmt.Sprintf("broker: this node's copy of the log cannot be read: %v. Nothing was changed; "+
		"'dstream --dir %s doctor --fix --server nats://…' (the address of another node) moves the copy aside once a majority of the others holds the log whole, and the node copies it anew when it is started again",
		e.Err, filepath.Dir(e.Dir))
}
