package projection

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"durablestream/event"
)

// LeaseMargin is the grace after a lease expires, to allow for clock skew between the
// reader and the server that stamped the claim.
const LeaseMargin = time.Second

// Intent is long-running work.
type Intent struct {
	event.Intent
	StreamID      string         `json:"stream_id"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Seq           event.Sequence `json:"seq"` // of agent.spawned
	Imported      bool           `json:"imported,omitempty"`
	Overdue       bool           `json:"overdue,omitempty"` // filled in by resume and list
	Status        Status         `json:"status"`            // hides the status that the payload was created with
	Holder        string         `json:"holder,omitempty"`
	LeaseUntil    event.Time     `json:"lease_until,omitzero"` // by the server's clock; zero: no lease
	Token         event.Sequence `json:"token,omitempty"`      // of the claim that holds
	GuardSeq      event.Sequence `json:"guard_seq"`            // the guard's last Sequence; 0: it has none
	EndedBy       string         `json:"ended_by,omitempty"`
	EndSeq        event.Sequence `json:"end_seq,omitempty"`
	EndID         string         `json:"end_id,omitempty"`
	Reason        string         `json:"reason,omitempty"`
	EventID       string         `json:"event_id"`
	Actor         string         `json:"-"`
	Stored        time.Time      `json:"-"` // the server's time of the creation
}

// Ended reports whether the intent is in a final state.
func (i Intent) Ended() bool {
	return i.Status == Completed || i.Status == Failed || i.Status == Aborted
}

// Due is the intent's deadline; zero if it has none.
func (i Intent) Due() time.Time {
	if i.TimeoutMS <= 0 {
		return time.Time{}
	}
	start := i.Stored
	if i.Imported && i.CreatedAt.Milli() > 0 {
		start = i.CreatedAt.Time
	}
	return time.UnixMilli(event.LaterMillis(start.UnixMilli(), i.TimeoutMS))
}

// PastDue reports whether the intent has passed its deadline and has not ended.
func (i Intent) PastDue(now time.Time) bool {
	due := i.Due()
	return !i.Ended() && !due.IsZero() && !now.Before(due)
}

// Held reports whether a lease is valid: no other process may then claim or end the
// intent.
func (i Intent) Held(now time.Time) bool {
	return !i.LeaseUntil.IsZero() && now.Before(i.LeaseUntil.Add(LeaseMargin))
}

// NewIntent reads a creation.
func NewIntent(r event.Recorded, stored time.Time) (Intent, error) {
	i := Intent{
		StreamID: r.StreamID, CorrelationID: r.CorrelationID, Seq: r.Seq, Imported: r.Imported,
		Status: Pending, EventID: r.ID, Actor: r.Actor, Stored: stored,
	}
	if err := json.Unmarshal(r.Payload, &i.Intent); err != nil {
		return i, fmt.Errorf("%s: the payload is not an intent: %w", r.Type, err)
	}
	i.CreatedAt = cmp.Or(i.CreatedAt, event.Time{Time: r.Timestamp})
	i.Result, i.Error, i.StartedAt, i.CompletedAt = "", "", event.Time{}, event.Time{} // its outcome comes from guards and ends
	return i, nil
}

// Take applies a guard message to the intent.
func (i *Intent) Take(g Guard, seq event.Sequence, stored time.Time) {
	i.GuardSeq = seq
	i.Holder, i.LeaseUntil, i.Token = "", event.Time{}, 0
	switch g.State {
	case event.StateClaimed:
		i.Status, i.Holder, i.Token = Running, g.Holder, seq
		if i.StartedAt.IsZero() {
			i.StartedAt = event.Milli(stored.UnixMilli())
		}
		if g.Lease > 0 {
			i.LeaseUntil = event.Milli(stored.Add(g.Lease).UnixMilli())
		}
	case event.StateReleased:
		i.Status = Pending
	}
}

// End applies an end that follows the guard.
func (i *Intent) End(r event.Recorded) error {
	var p event.IntentEnd
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return fmt.Errorf("%s: the payload does not end an intent: %w", r.Type, err)
	}
	i.Status = map[string]Status{event.AgentCompleted: Completed, event.AgentFailed: Failed, event.AgentAborted: Aborted}[r.Type]
	i.CompletedAt, i.EndedBy, i.EndSeq = event.Time{Time: r.Timestamp}, r.Actor, r.Seq
	i.EndID = r.ID
	i.Result, i.Error, i.Reason = p.Result, p.Error, p.Reason
	return nil
}

// Intents folds creations, claims and ends.
//
// The last message of its guard is an intent's state. An agent.spawned without a guard
// also creates an intent, unless one with that id exists. The guard of such an intent
// begins with the first claim or end, or with a creation behind the guard, which then
// replaces the unguarded one.
type Intents struct {
	byID   map[string]*Intent
	guards map[string]guardAt
}

type guardAt struct {
	Guard
	seq    event.Sequence
	stored time.Time
}

// Needs implements Fold.
func (*Intents) Needs() Needs {
	return Needs{
		Types:  append([]string{event.AgentSpawned}, event.IntentEnds()...),
		Guards: []string{event.GuardIntent},
	}
}

// Apply implements Fold.
func (x *Intents) Apply(e Entry) error {
	if x.byID == nil {
		x.byID, x.guards = map[string]*Intent{}, map[string]guardAt{}
	}
	if g := e.Guard; g != nil {
		if g.Kind == event.GuardIntent {
			x.guards[g.ID] = guardAt{*g, e.Seq, e.Stored}
			if i := x.byID[g.ID]; i != nil && !i.Ended() {
				i.Take(*g, e.Seq, e.Stored)
			}
		}
		return nil
	}
	if e.Event == nil {
		return nil
	}
	switch typ := e.Event.Type; {
	case typ == event.AgentSpawned:
		return x.spawned(e)
	case event.EndsIntent(typ):
		var p event.IntentEnd
		if err := json.Unmarshal(e.Event.Payload, &p); err != nil {
			return fmt.Errorf("%s: the payload does not end an intent: %w", e.Event.Type, err)
		}
		i, g := x.byID[p.IntentID], x.guards[p.IntentID]
		if i != nil && !i.Ended() && g.State == event.StateEnded && g.Event == e.Event.ID {
			return i.End(*e.Event)
		}
	}
	return nil
}

func (x *Intents) spawned(e Entry) error {
	i, err := NewIntent(*e.Event, e.Stored)
	if err != nil {
		return err
	}
	if i.ID == "" {
		return nil // work that nobody named
	}
	g, guarded := x.guards[i.ID]
	mine := guarded && g.Event == e.Event.ID
	was := x.byID[i.ID]
	if guarded && !mine || was != nil && (!mine || was.EventID == i.EventID) {
		return nil // it is there, or not the one that the guard was written with
	}
	if guarded {
		i.Take(g.Guard, g.seq, g.stored)
	}
	x.byID[i.ID] = &i
	return nil
}

// Get returns an intent.
func (x *Intents) Get(id string) (Intent, bool) {
	if i := x.byID[id]; i != nil {
		return *i, true
	}
	return Intent{}, false
}

// All lists the intents in the order of their creation; with active, only those that have
// not ended.
func (x *Intents) All(active bool) []Intent {
	out := []Intent{}
	for _, i := range x.byID {
		if !active || !i.Ended() {
			out = append(out, *i)
		}
	}
	slices.SortFunc(out, func(a, b Intent) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}
