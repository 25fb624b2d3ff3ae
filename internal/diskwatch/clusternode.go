package diskwatch

import (
	"durablestream/internal/room"
)

// Node is a node of a cluster.
type Node struct {
	On       func() bool  // whether the node's JetStream runs
	Leave    func() error // takes the node's JetStream out of the cluster, until ComeBack
	ComeBack func()
}

// stepAside acts on a look, for a node: it takes the node's JetStream out of the cluster
// while its disk is nearly full, and brings it back when there is space. The other nodes go
// on, and through them the clients of this node; when it is back, it catches up. The engine
// does the same by itself when a write fails for want of space, but never comes back.
//
// A lone host refuses the appends of its own clients. That would not help here, because the
// leader stores the appends of all nodes' clients.
//
// While a majority of the nodes have no space, appends wait.
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
