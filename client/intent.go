package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

var (
	// ErrUnknownIntent means that nobody created an intent under that id.
	ErrUnknownIntent = errors.New("there is no such intent")
	// ErrIntentEnded means that the intent has ended; an *EndedError carries how it
	// ended.
	ErrIntentEnded = errors.New("the intent has ended")
	// ErrHeld means that another process holds a lease; a *HeldError names the holder.
	ErrHeld = errors.New("the intent is held by another")
)

// EndedError is a change to an intent that has ended. It carries the end.
type EndedError struct{ Intent projection.Intent }

func (e *EndedError) Error() string {
	i := e.Intent
	return fmt.Sprintf("intent %s: %v: %s by %s (seq %d)", i.ID, ErrIntentEnded, i.Status, i.EndedBy, i.EndSeq)
}

// Unwrap returns ErrIntentEnded.
func (e *EndedError) Unwrap() error { return ErrIntentEnded }

// HeldError is a change to an intent while another process holds its lease.
type HeldError struct{ Intent projection.Intent }

func (e *HeldError) Error() string {
	i := e.Intent
	return fmt.Sprintf("intent %s: %v: %s until %s", i.ID, ErrHeld, i.Holder, i.LeaseUntil.UTC().Format(time.RFC3339Nano))
}

// Unwrap returns ErrHeld.
func (e *HeldError) Unwrap() error { return ErrHeld }

// IntentSpec describes long-running work.
type IntentSpec struct {
	// ID names the intent, at most 256 bytes. Default: "intent_" and a UUIDv7. A used ID
	// is a *ConflictError.
	ID string
	// StreamID is the session that the work belongs to; the intent's events go to its
	// stream. Required. It is also ParentSessionID in the payload.
	StreamID string
	// Actor is the creator. Required.
	Actor string
	// Description and Prompt describe the work, and Agent names the agent for it.
	Description, Agent, Prompt string
	// Timeout is the time after which the sweeper fails the intent with reason
	// "timeout", counted from its creation; 0: never.
	Timeout time.Duration

	CorrelationID, CausationID string
	Metadata                   json.RawMessage
	// EventID names the event of this call, so that a retry is stored once and returns
	// the first result. Default: a new UUIDv7.
	EventID string
}

// Create creates an intent. It is pending until a process claims or starts it.
func (ins Intents) Create(ctx context.Context, s IntentSpec) (projection.Intent, error) {
	c := ins.c
	if s.Timeout < 0 {
		return projection.Intent{}, fmt.Errorf("client: %w", &event.InvalidError{Field: "timeout", Value: s.Timeout.String(), Rule: "must be 0 (never) or more"})
	}
	p := event.Intent{
		ID: s.ID, Description: s.Description, Agent: s.Agent, Prompt: s.Prompt, ParentSessionID: s.StreamID,
		Status: string(projection.Pending), CreatedAt: event.Time{Time: event.Now()},
	}
	if s.Timeout > 0 {
		p.TimeoutMS = max(s.Timeout.Milliseconds(), 1)
	}
	if p.ID == "" { // the same in a retry
		p.ID = "intent_" + cmp.Or(s.EventID, event.NewID())
	}
	if s.EventID != "" {
		switch i, err := ins.Get(ctx, p.ID); {
		case err == nil && i.EventID == s.EventID:
			return i, nil
		case err != nil && !errors.Is(err, ErrUnknownIntent):
			return projection.Intent{}, err
		}
	}
	payload, err := event.Marshal(p)
	if err != nil {
		return projection.Intent{}, fmt.Errorf("client: intent %s: %w", p.ID, err)
	}
	if _, err := c.Append(ctx, event.Event{
		ID: s.EventID, Type: event.AgentSpawned, StreamID: s.StreamID, Actor: s.Actor, Payload: payload,
		CorrelationID: s.CorrelationID, CausationID: s.CausationID, Metadata: s.Metadata,
	}); err != nil {
		return projection.Intent{}, err
	}
	return c.Intents().Get(ctx, p.ID)
}

// Get reads the present state of one intent. It returns ErrUnknownIntent if nobody has
// created it.
func (ins Intents) Get(ctx context.Context, id string) (projection.Intent, error) {
	c := ins.c
	if err := event.ValidateID("intent", id); err != nil {
		return projection.Intent{}, fmt.Errorf("client: %w", err)
	}
	position, err := c.log.Position(ctx)
	if err != nil {
		return projection.Intent{}, err
	}
	var f projection.Intents
	if err := c.foldIntent(ctx, &f, id, position); err != nil {
		return projection.Intent{}, fmt.Errorf("client: intent %q: %w", id, err)
	}
	i, ok := f.Get(id)
	if !ok {
		return i, fmt.Errorf("client: intent %q: %w", id, ErrUnknownIntent)
	}
	return i, nil
}

// foldIntent applies the messages of one intent's guard, and the events behind them. Only
// for an intent that was appended without a guard does it search all intents.
func (c *Client) foldIntent(ctx context.Context, f *projection.Intents, id string, position event.Sequence) error {
	if position == 0 {
		return nil
	}
	guard := wire.GuardSubject(event.GuardIntent, id)
	last, err := c.log.Last(ctx, guard)
	if err != nil {
		return err
	}
	if last != nil {
		created, err := c.foldGuard(ctx, f, guard, max(position, event.Sequence(last.Sequence)))
		if err != nil || created {
			return err
		}
	}
	*f = projection.Intents{}
	needs := f.Needs()
	needs.Guards = nil
	r := projection.Runner{Folds: []projection.Fold{f}}
	return r.Run(c.entriesOf(ctx, append(subjectsOf(needs), guard), 0, position))
}

// foldGuard applies the messages of an intent's guard, and reports whether the creation
// is among them.
func (c *Client) foldGuard(ctx context.Context, f *projection.Intents, guard string, until event.Sequence) (created bool, _ error) {
	for m, err := range c.log.Feed(ctx, logio.FeedConfig{Subjects: []string{guard}, Until: until}) {
		if err != nil {
			return created, err
		}
		e, ok := c.entry(m)
		if !ok {
			continue
		}
		if err := f.Apply(e); err != nil {
			return created, err
		}
		if e.Guard.State != event.StateCreated && e.Guard.State != event.StateEnded {
			continue
		}
		r, err := c.log.Behind(ctx, m.Seq, m.Data)
		if err != nil {
			return created, err
		}
		if r != nil {
			created = created || r.Type == event.AgentSpawned
			c.imports.believe(ctx, r)
			if err := f.Apply(projection.Entry{Seq: r.Seq, Stored: m.Stored, Event: r}); err != nil {
				return created, err
			}
		}
	}
	return created, nil
}

// List lists the intents in the order of their creation; with active, only those that
// have not ended.
func (ins Intents) List(ctx context.Context, active bool) ([]projection.Intent, error) {
	c := ins.c
	var f projection.Intents
	if _, _, err := c.fold(ctx, &f); err != nil {
		return nil, err
	}
	return f.All(active), nil
}

// Lease is the right of one process to work on an intent. Its Token is a fencing token:
// greater than that of every earlier claim.
type Lease struct {
	Intent string
	Holder string
	Token  event.Sequence
	Length time.Duration // 0: the lease does not expire, and any process may take over
	Until  time.Time     // by this process's clock when it sent the claim; zero without Length
}

// Claim takes the lease of an intent for length, if no other process holds it. A
// *HeldError names the holder; an *EndedError means that the intent has ended. Another
// process can take over an expired lease after projection.LeaseMargin, by the server's
// time of the claim and that process's clock. Of many concurrent claims, one succeeds.
func (ins Intents) Claim(ctx context.Context, id, holder string, length time.Duration) (Lease, error) {
	c := ins.c
	if length < time.Millisecond {
		return Lease{}, fmt.Errorf("client: %w", &event.InvalidError{Field: "lease", Value: length.String(), Rule: "must be 1 ms or more"})
	}
	return c.claim(ctx, id, holder, length)
}

// Start marks an intent as running without a lease: any process may take over.
func (ins Intents) Start(ctx context.Context, id, holder string) (Lease, error) {
	c := ins.c
	return c.claim(ctx, id, holder, 0)
}

func (c *Client) claim(ctx context.Context, id, holder string, length time.Duration) (Lease, error) {
	for {
		i, err := c.Intents().Get(ctx, id)
		if err != nil {
			return Lease{}, err
		}
		if i.Ended() {
			return Lease{}, fmt.Errorf("client: %w", &EndedError{i})
		}
		if i.Held(time.Now()) {
			return Lease{}, fmt.Errorf("client: %w", &HeldError{i})
		}
		l, err := c.moveIntent(ctx, Lease{Intent: id, Holder: holder, Token: i.GuardSeq, Length: length}, event.StateClaimed)
		var conflict *ConflictError
		if !errors.As(err, &conflict) {
			return l, err
		}
		// Another process was faster: read again for the new holder, or a free intent.
	}
}

// Renew extends a lease by its length, from now, under a new Token. A *ConflictError
// means that the lease was lost: another process took over, or the intent ended.
func (ins Intents) Renew(ctx context.Context, l Lease) (Lease, error) {
	c := ins.c
	if l.Length < time.Millisecond {
		return l, fmt.Errorf("client: %w", &event.InvalidError{Field: "lease", Value: l.Length.String(), Rule: "must be 1 ms or more"})
	}
	if err := c.holds(ctx, l); err != nil {
		return l, err
	}
	return c.moveIntent(ctx, l, event.StateClaimed)
}

// Release returns a lease; the intent is pending again. Its errors are those of Renew.
func (ins Intents) Release(ctx context.Context, l Lease) error {
	c := ins.c
	if err := c.holds(ctx, l); err != nil {
		return err
	}
	_, err := c.moveIntent(ctx, l, event.StateReleased)
	return err
}

// holds checks that l is the current claim.
func (c *Client) holds(ctx context.Context, l Lease) error {
	i, err := c.Intents().Get(ctx, l.Intent)
	if err != nil {
		return err
	}
	lost, err := c.log.MovedFrom(ctx, wire.GuardSubject(event.GuardIntent, l.Intent), l.Token)
	if err != nil {
		return err
	}
	if lost == nil { // the guard is where l expects it, but does not hold l's claim
		lost = &ConflictError{Guard: wire.GuardSubject(event.GuardIntent, l.Intent), Expected: l.Token, Seq: i.GuardSeq}
	}
	switch {
	case i.Ended():
		return fmt.Errorf("client: %w: %w", &EndedError{i}, lost)
	case l.Token == 0 || i.Token != l.Token:
		return fmt.Errorf("client: intent %s: %w", l.Intent, lost)
	case i.Holder != l.Holder:
		return fmt.Errorf("client: %w", &HeldError{i})
	}
	return nil
}

// moveIntent publishes the next state on the intent's guard as a single message, not a
// batch, since batches hold up all appenders.
func (c *Client) moveIntent(ctx context.Context, l Lease, state string) (Lease, error) {
	if err := event.ValidateID("holder", l.Holder); err != nil {
		return l, fmt.Errorf("client: intent %s: %w", l.Intent, err)
	}
	body := wire.GuardBody{Event: rand.Text(), State: state, Holder: l.Holder, Lease: l.Length.Milliseconds()}
	if l.Length > 0 {
		l.Until = time.Now().Round(0).Add(l.Length)
	}
	b := logio.Batch{logio.OfGuard(wire.GuardSubject(event.GuardIntent, l.Intent), body.Encode(), l.Token)}
	if err := c.log.PublishBatch(ctx, b); err != nil {
		return l, fmt.Errorf("client: intent %s: %w", l.Intent, err)
	}
	l.Token = b[0].Seq()
	return l, nil
}

// End describes the end of an intent.
type End struct {
	// By is the person or program that ends it. Required.
	By string
	// Token is the token of the lease under which the work was done. A stale token is a
	// *ConflictError. 0: without a lease, which is a *HeldError while another process
	// holds one.
	Token event.Sequence
	// Result is for a completion, Error for a failure, Reason for a completion, a failure
	// or an abort.
	Result, Error, Reason string
	// EventID names the event of this call, so that a retry is stored once and returns
	// the first result. Default: a new UUIDv7.
	EventID string
}

// Complete ends an intent as completed.
func (ins Intents) Complete(ctx context.Context, id string, e End) (projection.Intent, error) {
	c := ins.c
	return c.endIntent(ctx, event.AgentCompleted, id, e)
}

// Fail ends an intent as failed.
func (ins Intents) Fail(ctx context.Context, id string, e End) (projection.Intent, error) {
	c := ins.c
	return c.endIntent(ctx, event.AgentFailed, id, e)
}

// Abort ends an intent as aborted, regardless of the holder.
func (ins Intents) Abort(ctx context.Context, id string, e End) (projection.Intent, error) {
	c := ins.c
	return c.endIntent(ctx, event.AgentAborted, id, e)
}

func (c *Client) endIntent(ctx context.Context, typ, id string, end End) (projection.Intent, error) {
	for {
		i, err := c.tryEnd(ctx, typ, id, end)
		var conflict *ConflictError
		if end.Token != 0 || !errors.As(err, &conflict) || errors.Is(err, ErrIntentEnded) {
			return i, err
		}
		// The state changed meanwhile, for example by a renewal, and the caller expected
		// no particular state.
	}
}

func (c *Client) tryEnd(ctx context.Context, typ, id string, end End) (projection.Intent, error) {
	i, err := c.Intents().Get(ctx, id)
	if err != nil {
		return i, err
	}
	payload, err := event.Marshal(event.IntentEnd{IntentID: id, Result: end.Result, Error: end.Error, Reason: end.Reason})
	if err != nil {
		return i, fmt.Errorf("client: intent %s: %w", id, err)
	}
	r, err := c.prepare(event.Event{
		ID: end.EventID, Type: typ, StreamID: i.StreamID, CorrelationID: i.CorrelationID, CausationID: i.EventID, Actor: end.By, Payload: payload,
	})
	if err != nil {
		return i, err
	}
	p, err := c.protectEndOf(ctx, &r, i, end.Token)
	if err != nil {
		return i, fmt.Errorf("client: %w", err)
	}
	if _, err = c.appendProtected(ctx, r, p); err != nil {
		return i, err
	}
	return c.Intents().Get(ctx, id)
}

// protectSpawn creates an intent from an agent.spawned that names one.
func (c *Client) protectSpawn(r *event.Recorded) (*protection, error) {
	i, err := projection.NewIntent(*r, time.Now())
	if _, _, names := wire.Protected(r.Event); !names && (err != nil || i.ID == "") {
		return nil, nil //nolint:nilerr // work that nobody named, whatever else its payload is
	}
	if err != nil {
		return nil, &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: err.Error()}
	}
	subject, body, err := guardOf(r, event.GuardIntent, "id", i.ID)
	if err != nil {
		return nil, err
	}
	if _, err := event.Millis("payload.timeout_ms", i.TimeoutMS); err != nil {
		return nil, err
	}
	lost := func(_ context.Context, conflict *ConflictError) (event.Recorded, error) {
		if conflict.Winner != nil && conflict.Winner.ID == r.ID {
			return *conflict.Winner, nil
		}
		return event.Recorded{}, fmt.Errorf("intent %s is there already: use another id: %w", i.ID, conflict)
	}
	return &protection{guard: subject, body: body.Encode(), lost: lost}, nil
}

// protectEnd guards the end of an intent that was handed to Append. The end of an intent
// that nobody created is an ordinary event.
func (c *Client) protectEnd(ctx context.Context, r *event.Recorded) (*protection, error) {
	if _, _, ok := wire.Protected(r.Event); !ok {
		return nil, nil
	}
	var p event.IntentEnd
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return nil, &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: "must end an intent: " + err.Error()}
	}
	if _, _, err := guardOf(r, event.GuardIntent, "intent_id", p.IntentID); err != nil {
		return nil, err
	}
	i, err := c.Intents().Get(ctx, p.IntentID)
	if errors.Is(err, ErrUnknownIntent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.protectEndOf(ctx, r, i, 0)
}

// protectEndOf guards the end of i under a lease's token, or without one.
func (c *Client) protectEndOf(_ context.Context, r *event.Recorded, i projection.Intent, token event.Sequence) (*protection, error) {
	if i.Ended() {
		if r.ID == i.EndID {
			return &protection{stored: i.EndSeq}, nil
		}
		return nil, &EndedError{i}
	}
	mine := r.Actor == i.Holder || r.Type == event.AgentAborted
	if token == 0 && i.Held(time.Now()) && !mine {
		return nil, &HeldError{i}
	}
	subject, body, _ := wire.Protected(r.Event)
	expected := cmp.Or(token, i.GuardSeq)
	lost := func(ctx context.Context, conflict *ConflictError) (event.Recorded, error) {
		if now, err := c.Intents().Get(ctx, i.ID); err == nil && now.Ended() {
			if now.EndID == r.ID { // the same call, sent twice at the same time
				return c.log.Same(ctx, event.Recorded{Event: r.Event, Seq: now.EndSeq})
			}
			return event.Recorded{}, errors.Join(&EndedError{now}, conflict)
		}
		return event.Recorded{}, fmt.Errorf("intent %s: %w", i.ID, conflict)
	}
	return &protection{guard: subject, expected: expected, body: body.Encode(), lost: lost}, nil
}
