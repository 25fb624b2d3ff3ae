package projection

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"durablestream/event"
)

// Status is the state of a checkpoint or an intent.
type Status string

// The states of a checkpoint and of an intent.
const (
	Pending   Status = "pending"
	Approved  Status = "approved"
	Rejected  Status = "rejected"
	Expired   Status = "expired"
	Cancelled Status = "cancelled"

	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Aborted   Status = "aborted"
)

// Checkpoint is a question for a human, pending or decided.
type Checkpoint struct {
	event.Checkpoint
	StreamID        string         `json:"stream_id"`
	CorrelationID   string         `json:"correlation_id,omitempty"`
	Seq             event.Sequence `json:"seq"` // of the request
	Status          Status         `json:"status"`
	Imported        bool           `json:"imported,omitempty"`
	Overdue         bool           `json:"overdue,omitempty"` // filled in by resume and list
	CancelRequested bool           `json:"cancel_requested,omitempty"`
	CancelBy        string         `json:"cancel_by,omitempty"`
	CancelReason    string         `json:"cancel_reason,omitempty"`
	// Blocked is the Sequence of a guard message that was written without a decision: no
	// decision is possible until an operator voids it. 0: none.
	Blocked  event.Sequence `json:"blocked,omitempty"`
	Decision *Decision      `json:"decision,omitempty"`
	EventID  string         `json:"event_id"` // of the request
	Actor    string         `json:"-"`        // of the request's event
}

// Decision is the one decision of a checkpoint. It never changes.
type Decision struct {
	Status  Status          `json:"status"`
	By      string          `json:"by"`
	At      event.Time      `json:"at"`
	Seq     event.Sequence  `json:"seq"` // of the decision's event
	EventID string          `json:"event_id"`
	Option  string          `json:"option,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Comment string          `json:"comment,omitempty"`
	Reason  string          `json:"reason,omitempty"`
}

// PastDue reports whether the checkpoint's time has passed without a decision.
func (c Checkpoint) PastDue(now time.Time) bool {
	return c.Status == Pending && !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt.Time)
}

// NewCheckpoint reads a request.
func NewCheckpoint(r event.Recorded) (Checkpoint, error) {
	c := Checkpoint{
		StreamID: r.StreamID, CorrelationID: r.CorrelationID, Seq: r.Seq, Status: Pending,
		Imported: r.Imported, EventID: r.ID, Actor: r.Actor,
	}
	if err := json.Unmarshal(r.Payload, &c.Checkpoint); err != nil {
		return c, fmt.Errorf("%s: the payload is not a checkpoint: %w", r.Type, err)
	}
	if c.ID == "" {
		return c, fmt.Errorf("%s: the payload has no id", r.Type)
	}
	c.RequestedBy = cmp.Or(c.RequestedBy, r.Actor)
	c.RequestedAt = cmp.Or(c.RequestedAt, event.Time{Time: r.Timestamp})
	return c, nil
}

// NewDecision reads a decision and the id of its checkpoint.
func NewDecision(r event.Recorded) (id string, d Decision, err error) {
	d = Decision{By: r.Actor, At: event.Time{Time: r.Timestamp}, Seq: r.Seq, EventID: r.ID}
	var p struct {
		event.Approved
		RejectedBy  string `json:"rejected_by"`
		CancelledBy string `json:"cancelled_by"`
		Reason      string `json:"reason"`
	}
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return "", d, fmt.Errorf("%s: the payload is not a decision: %w", r.Type, err)
	}
	switch r.Type {
	case event.CheckpointApproved:
		d.Status, d.By = Approved, cmp.Or(p.ApprovedBy, r.Actor)
	case event.CheckpointRejected:
		d.Status, d.By = Rejected, cmp.Or(p.RejectedBy, r.Actor)
	case event.CheckpointExpired:
		d.Status = Expired
	case event.CheckpointCancelled:
		d.Status, d.By = Cancelled, cmp.Or(p.CancelledBy, r.Actor)
	default:
		return "", d, fmt.Errorf("%s is not a decision", r.Type)
	}
	d.Option, d.Answer, d.Comment, d.Reason = p.SelectedOption, p.Answer, p.Comment, p.Reason
	return p.CheckpointID, d, nil
}

// Checkpoints folds requests and decisions.
//
// A decision counts only if it follows its guard directly (see Gate). Any other event of
// these types changes nothing. A request counts if the first message of its request guard
// names it.
type Checkpoints struct {
	byID     map[string]*Checkpoint
	requests map[string]string // checkpoint → the id of the event behind its request guard
	gates    map[string]*Gate
}

// Needs implements Fold.
func (*Checkpoints) Needs() Needs {
	return Needs{Types: []string{"checkpoint.*"}, Guards: []string{event.GuardRequest, event.GuardCheckpoint}}
}

// Apply implements Fold.
func (c *Checkpoints) Apply(e Entry) error {
	if c.byID == nil {
		c.byID, c.requests, c.gates = map[string]*Checkpoint{}, map[string]string{}, map[string]*Gate{}
	}
	if e.Guard != nil {
		c.guard(*e.Guard, e.Seq)
		return nil
	}
	if e.Event == nil {
		return nil
	}
	switch typ := e.Event.Type; {
	case typ == event.CheckpointRequested:
		cp, err := NewCheckpoint(*e.Event)
		if err != nil {
			return err
		}
		if c.requests[cp.ID] == e.Event.ID && c.byID[cp.ID] == nil {
			c.byID[cp.ID] = &cp
			cp.Blocked = c.gate(cp.ID).Blocked
		}
	case event.IsDecision(typ):
		id, d, err := NewDecision(*e.Event)
		if err != nil {
			return err
		}
		if cp := c.byID[id]; cp != nil && c.gate(id).Apply(*e.Event) {
			cp.Decision, cp.Status, cp.Blocked = &d, d.Status, 0
		}
	case typ == event.CheckpointGuardVoided:
		var p event.GuardVoided
		if err := json.Unmarshal(e.Event.Payload, &p); err != nil {
			return fmt.Errorf("%s: %w", e.Event.Type, err)
		}
		g := c.gate(p.CheckpointID)
		g.Apply(*e.Event)
		if cp := c.byID[p.CheckpointID]; cp != nil {
			cp.Blocked = g.Blocked
		}
	case typ == event.CheckpointCancelRequested:
		var p event.CancelRequested
		if err := json.Unmarshal(e.Event.Payload, &p); err != nil {
			return fmt.Errorf("%s: %w", e.Event.Type, err)
		}
		if cp := c.byID[p.CheckpointID]; cp != nil && !cp.CancelRequested {
			cp.CancelRequested, cp.CancelBy, cp.CancelReason = true, cmp.Or(p.RequestedBy, e.Event.Actor), p.Reason
		}
	}
	return nil
}

// guard applies a message of a guard.
func (c *Checkpoints) guard(g Guard, seq event.Sequence) {
	switch g.Kind {
	case event.GuardRequest:
		if _, ok := c.requests[g.ID]; !ok {
			c.requests[g.ID] = g.Event
		}
	case event.GuardCheckpoint:
		gate := c.gate(g.ID)
		gate.Message(seq, g.Event)
		if cp := c.byID[g.ID]; cp != nil {
			cp.Blocked = gate.Blocked
		}
	}
}

func (c *Checkpoints) gate(id string) *Gate {
	g := c.gates[id]
	if g == nil {
		g = &Gate{}
		c.gates[id] = g
	}
	return g
}

// Get returns a checkpoint.
func (c *Checkpoints) Get(id string) (Checkpoint, bool) {
	if cp := c.byID[id]; cp != nil {
		return *cp, true
	}
	return Checkpoint{}, false
}

// All lists the checkpoints in the order of their requests; with pending, only the
// undecided ones.
func (c *Checkpoints) All(pending bool) []Checkpoint {
	out := []Checkpoint{}
	for _, cp := range c.byID {
		if !pending || cp.Status == Pending {
			out = append(out, *cp)
		}
	}
	slices.SortFunc(out, func(a, b Checkpoint) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}
