package projection

import "durablestream/event"

// Gate is the guard of one checkpoint's decision, as far as its messages were read. It is
// shared by all that read guards, so that they agree.
//
// A decision is written with its guard message, as the very next message, each expecting
// the Gate's last Sequence: of all decisions at once one is stored. A guard message
// without such an event was written by hand. It blocks the Gate, since every decision
// expects what was before it; no later one counts. A void, which is written in the same
// way, opens the Gate again: what comes then expects the void's Sequence.
//
// Safety: which message decides follows from the Log alone, and never changes, since each
// step depends only on what is before it. A void cannot undo a decision: it does nothing
// to a Gate that is decided. A reader of an earlier version takes the last message of the
// guard, and so sees a blocked question after the void and the decision after the
// decision.
type Gate struct {
	At      event.Sequence // of the guard's last message; 0: none
	Blocked event.Sequence // of the message that holds no decision; 0: none
	Event   string         // the id of the event that the last message was written with
	Decided bool

	open bool // before the last message
}

// Message applies a guard message, which says that it was written with that event.
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
