package diskwatch

import (
	"durablestream/internal/room"
)

// Node is a node of a cluster.
type Node struct {
	On       func() bool  // its JetStream runs
	Leave    func() error // takes its JetStream out of the cluster for the time being
	ComeBack func()       // brings it back
}

// stepAside acts on a look, for a node: it takes the node's JetStream out of the cluster
// while its disk is nearly full, and back in when there is space. The
// others go on, and the node's own clients with them, through its routes; when it
// is back, it catches up. The engine does the same by itself when a write fails for
// want of space, but never comes back.
//
// What a lone host does, to refuse the appends of its own clients, would not help
// here: the leader stores what other nodes' clients send.
//
// Should a majority of the nodes have no space, appends wait until one has.
func (w *Watch) stepAside(was State, now *State, r room.Room) {
	on := w.b.Node.On()
	if on && now.Lack == room.LackNothing {
		w.idle(now, r)
	}
	switch {
	case on && now.Lack != room.LackNothing:
		w.b.Logger.Warn("this node steps aside, the others go on: "+now.why(""), "free", now.Free, "floor", now.Floor)
		if err := w.b.Node.Leave(); err != nil {
			w.b.Logger.Error("cannot step aside", "err", err)
		}
	case !on && now.Lack == room.LackNothing:
		// The engine stepped aside by itself for another reason, perhaps one that lasts.
		if !w.unhealthyLongEnough() {
			now.Lack = was.Lack
			break
		}
		if w.hasRoom(was, now, r, 0) {
			w.b.Node.ComeBack()
		}
	}
	now.Full = !w.b.Node.On()
}
