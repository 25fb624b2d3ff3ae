package broker

import (
	"path/filepath"
	"time"

	"durablestream/internal/room"

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
func (w *diskWatch) stepAside(was DiskState, now *DiskState, r room.Room) {
	s := w.b.server
	on := s.JetStreamEnabled()
	if on && now.Lack == LackNothing {
		w.unhealthy, w.mends, now.Blocked = 0, 0, ""
		if time.Since(w.probed) > probeEvery && r.Free >= room.Size {
			w.probed = time.Now()
			now.Lack = Lack(r.LackOf(w.probe(false)))
		}
	}
	switch {
	case on && now.Lack != LackNothing:
		w.b.cfg.Logger.Warn("this node steps aside, the others go on: "+now.why(), "free", now.Free, "floor", now.Floor)
		w.b.switching.Lock()
		err := s.ShutdownJetStream()
		w.b.switching.Unlock()
		if err != nil {
			w.b.cfg.Logger.Error("cannot step aside", "err", err)
		}
	case !on && now.Lack == LackNothing:
		// The engine stepped aside by itself for another reason, perhaps one that lasts.
		if w.unhealthy++; w.unhealthy < unhealthyLooks<<min(w.mends, unhealthyMost) {
			now.Lack = was.Lack
			break
		}
		w.unhealthy = 0
		w.mends++
		if w.hasRoom(was, now, r, 0) {
			w.comeBack()
		}
	}
	now.Full = !s.JetStreamEnabled()
}

// comeBack switches the node's JetStream on again.
func (w *diskWatch) comeBack() {
	if err := w.b.checkMeta(); err != nil {
		w.b.cfg.Logger.Error("cannot come back after a full disk", "err", err)
		return
	}
	s, o := w.b.server, w.b.opts
	// The engine exchanges the queues of its API without a lock, which connections have
	// read before they were cut off from it. A look at each, under its lock, comes after that.
	if _, err := s.Routez(nil); err == nil {
		_, _ = s.Connz(nil)
	}
	if err := w.b.forgetUnwritten(); err != nil {
		w.b.cfg.Logger.Error("cannot come back after a full disk", "err", err)
		return
	}
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
}
