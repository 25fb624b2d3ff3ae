package broker

import (
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// stepAside is what the disk watch of a node does: it takes the node's JetStream out
// of the cluster while its disk is nearly full, and back in when there is space. The
// others go on, and the node's own clients with them, through its routes; when it
// is back, it catches up. The engine does the same by itself when a write fails for
// want of space, but never comes back.
//
// What a lone host does, to refuse the appends of its own clients, would not help
// here: the leader stores what other nodes' clients send. And to switch JetStream off
// for the account only, as a lone host mends itself, or with DisableJetStream, would
// take the node out of the cluster for good. ShutdownJetStream keeps its place.
//
// Should a majority of the nodes have no space, appends wait until one has.
func (w *diskWatch) stepAside(free, floor int64) (aside bool) {
	s := w.b.server
	switch on := s.JetStreamEnabled(); {
	case on && free < floor:
		w.b.cfg.Logger.Warn("the disk is nearly full: this node steps aside, the others go on", "free", free, "floor", floor)
		w.b.switching.Lock()
		err := s.ShutdownJetStream()
		w.b.switching.Unlock()
		if err != nil {
			w.b.cfg.Logger.Error("cannot step aside", "err", err)
		}
	case !on && free >= floor+floor/4: // a margin, so that it does not flap
		// The engine stepped aside by itself for another reason, perhaps one that lasts.
		if w.unhealthy++; w.unhealthy < unhealthyLooks<<min(w.mends, unhealthyMost) {
			break
		}
		w.unhealthy = 0
		w.mends++
		// The engine exchanges the queues of its API without a lock, which connections have
		// read before they were cut off from it. A look at each, under its lock, comes after that.
		if _, err := s.Routez(nil); err == nil {
			_, _ = s.Connz(nil)
		}
		o := w.b.opts
		w.b.switching.Lock()
		err := s.EnableJetStream(&server.JetStreamConfig{
			StoreDir:   filepath.Clean(o.StoreDir),
			MaxMemory:  o.JetStreamMaxMemory,
			MaxStore:   o.JetStreamMaxStore,
			SyncAlways: o.SyncAlways,
			Strict:     !o.NoJetStreamStrict,
		})
		w.b.switching.Unlock()
		if err != nil {
			w.b.cfg.Logger.Error("cannot come back after a full disk", "err", err)
		}
	case on:
		w.unhealthy, w.mends = 0, 0
	}
	return !s.JetStreamEnabled()
}
