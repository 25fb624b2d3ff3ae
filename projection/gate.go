package projection

import "durablestream/event"

// Gate is the state of the guard of one checkpoint's decision, after the messages read so
// far. All readers of guards share this code, so that they agree.
//
// A decision directly follows its guard message, and the guard message expects the Gate's
// last Sequence. So of several concurrent decisions, the Log stores one. A guard message
// without such an event was written by hand. It blocks the Gate, since every decision
// expects the Sequence before it, and no later decision counts. A void, which is written
// in the same way, opens the Gate again: later decisions expect the void's Sequence.
//
// Safety: the Log alone determines the message that decides, and this never changes,
// since each step depends only on earlier messages. A void cannot undo a decision: it
// does not change a decided Gate. A reader of an earlier version uses the last message of
// the guard. It sees a blocked question after the void, and the decision after the
// decision.
type Gate struct {
	At      event.Sequence // of the guard's last message; 0: none
	Blocked event.Sequence // of the message that holds no decision; 0: none
	Event   string         // the id of the event that the last message was written with
	Decided bool

	open bool // before the last message
}

// Message applies a guard message. id names the event that the message says it was
// written with.
func (g *Gate) Message(seq event.Sequence, id string) {
	if g.Decided {
		return
	}
	g.open = g.Blocked == 0
	g.At, g.Event = seq, id
	if g.open {
		g.Blocked = seq // until its event is seen
	}
}

// Apply applies an event about the checkpoint, and reports whether it is the decision.
func (g *Gate) Apply(r event.Recorded) (decides bool) {
	if g.Decided || g.At == 0 || r.Seq != g.At+1 || r.ID != g.Event {
		return false
	}
	switch {
	case event.IsDecision(r.Type):
		if g.open {
			g.Decided, g.Blocked = true, 0
		}
		return g.open
	case r.Type == event.CheckpointGuardVoided:
		g.Blocked = 0
	}
	return false
}
