package client

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// CheckpointRequest is a question for a human.
type CheckpointRequest struct {
	// ID names the checkpoint, at most 256 bytes. Default: "cp_" and a UUIDv7. A request
	// under a used ID returns the first request if the action is the same, else a
	// *ConflictError.
	ID string
	// StreamID is the session that asks, and RequestedBy the asker. Both are required.
	// RequestedBy can never decide.
	StreamID    string
	RequestedBy string
	// DecisionPoint is the question, for a human to read. Required.
	DecisionPoint string
	// Options are the choices of an approval; each ID occurs once. Without Options, an
	// approval names no option.
	Options []event.Option
	// Schema is a JSON Schema that a free answer must satisfy (draft 2020-12 unless it
	// names another). Nil: an answer may be any JSON.
	Schema json.RawMessage
	// ExpiresIn is the time after which the sweeper decides "expired"; 0: never.
	ExpiresIn time.Duration
	// Action is the exact action that the question is about, any JSON. The request and
	// the decision store its hash.
	Action json.RawMessage

	CorrelationID, CausationID string
	Metadata                   json.RawMessage
}

// Request stores a question. It returns when the question is durable, and does not wait
// for the answer: see Wait.
func (cps Checkpoints) Request(ctx context.Context, q CheckpointRequest) (projection.Checkpoint, error) {
	c := cps.c
	now := event.Time{Time: event.Now()}
	p := event.Checkpoint{
		ID: q.ID, DecisionPoint: q.DecisionPoint, Options: q.Options,
		RequestedBy: q.RequestedBy, RequestedAt: now, Schema: q.Schema, Action: q.Action,
	}
	if p.ID == "" {
		p.ID = "cp_" + event.NewID()
	}
	if p.Options == nil {
		p.Options = []event.Option{}
	}
	if q.ExpiresIn < 0 {
		return projection.Checkpoint{}, fmt.Errorf("client: %w", &event.InvalidError{Field: "expires", Value: q.ExpiresIn.String(), Rule: "must be 0 (never) or more"})
	}
	if q.ExpiresIn > 0 {
		p.ExpiresAt = event.Milli(event.LaterMillis(now.Milli(), max(q.ExpiresIn.Milliseconds(), 1)))
	}
	for _, part := range []struct {
		field string
		v     json.RawMessage
	}{{"action", q.Action}, {"schema", q.Schema}} {
		if len(part.v) > 0 {
			if err := event.ValidateJSON(part.field, part.v, 2); err != nil {
				return projection.Checkpoint{}, fmt.Errorf("client: %w", err)
			}
		}
	}
	if q.Action != nil {
		hash, err := ActionHash(q.Action)
		if err != nil {
			return projection.Checkpoint{}, fmt.Errorf("client: %w", err)
		}
		p.ActionHash = hash
	}
	payload, err := event.Marshal(p)
	if err != nil {
		return projection.Checkpoint{}, fmt.Errorf("client: checkpoint %s: %w", p.ID, err)
	}
	r, err := c.Append(ctx, event.Event{
		Type: event.CheckpointRequested, StreamID: q.StreamID, Actor: q.RequestedBy,
		CorrelationID: q.CorrelationID, CausationID: q.CausationID, Metadata: q.Metadata, Payload: payload,
	})
	if err != nil {
		return projection.Checkpoint{}, err
	}
	return c.Checkpoints().Get(ctx, cmp.Or(checkpointID(r), p.ID))
}

func checkpointID(r event.Recorded) string {
	cp, err := projection.NewCheckpoint(r)
	if err != nil {
		return ""
	}
	return cp.ID
}

// checkRequest checks a request before it is stored.
func checkRequest(r event.Recorded) (projection.Checkpoint, error) {
	cp, err := projection.NewCheckpoint(r)
	if err != nil {
		return cp, &event.InvalidError{Field: "payload", Value: string(r.Payload), Rule: "must be a checkpoint with an id: " + err.Error()}
	}
	if cp.RequestedBy == SweeperActor || cp.Actor == SweeperActor {
		return cp, &event.InvalidError{Field: "payload.requested_by", Value: SweeperActor, Rule: "is the sweeper's name: ask under another"}
	}
	if cp.ExpiresAt.Milli() < 0 {
		return cp, &event.InvalidError{Field: "payload.expires_at", Value: fmt.Sprint(cp.ExpiresAt.Milli()), Rule: "must be Unix time in milliseconds, or 0 (never)"}
	}
	if cp.DecisionPoint == "" {
		return cp, &event.InvalidError{Field: "payload.decision_point", Value: "", Rule: "must say what there is to decide"}
	}
	for i, o := range cp.Options {
		twice := slices.ContainsFunc(cp.Options[:i], func(p event.Option) bool { return p.ID == o.ID })
		if o.ID == "" || twice {
			return cp, &event.InvalidError{Field: fmt.Sprintf("payload.options[%d].id", i), Value: o.ID, Rule: "must not be empty, nor be there twice"}
		}
	}
	if len(cp.Schema) > 0 {
		if _, err := compileSchema(cp.Schema); err != nil {
			return cp, &event.InvalidError{Field: "payload.schema", Value: string(cp.Schema), Rule: "must be a JSON Schema: " + err.Error()}
		}
	}
	if len(cp.Action) == 0 && cp.ActionHash != "" && !isHash(cp.ActionHash) {
		return cp, &event.InvalidError{Field: "payload.action_hash", Value: cp.ActionHash, Rule: "must be 64 lower-case hexadecimal digits"}
	}
	if len(cp.Action) > 0 {
		hash, err := ActionHash(cp.Action)
		if err != nil {
			return cp, err
		}
		if cp.ActionHash != "" && cp.ActionHash != hash {
			return cp, &event.InvalidError{Field: "payload.action_hash", Value: cp.ActionHash, Rule: "must be the hash of the action, " + hash}
		}
	}
	return cp, nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// hashOf returns the hash of the checkpoint's action; "" if it has none.
func hashOf(cp projection.Checkpoint) string {
	if cp.ActionHash != "" || len(cp.Action) == 0 {
		return cp.ActionHash
	}
	hash, err := ActionHash(cp.Action)
	if err != nil {
		return "unreadable"
	}
	return hash
}

// VerifyAction reports whether an approval of cp is for exactly this action.
func VerifyAction(cp projection.Checkpoint, action json.RawMessage) bool {
	hash, err := ActionHash(action)
	return err == nil && cp.Status == projection.Approved && hash == hashOf(cp)
}

// Get reads the present state of one checkpoint. It returns ErrUnknownCheckpoint if
// nobody has requested it, and a *BlockedError if its guard blocks every decision.
func (cps Checkpoints) Get(ctx context.Context, id string) (projection.Checkpoint, error) {
	c := cps.c
	cp, _, err := c.lookNow(ctx, id)
	return cp, err
}

// lookNow is Get, and also returns the gate that it read.
func (c *Client) lookNow(ctx context.Context, id string) (projection.Checkpoint, projection.Gate, error) {
	if err := event.ValidateID("checkpoint", id); err != nil {
		return projection.Checkpoint{}, projection.Gate{}, fmt.Errorf("client: %w", err)
	}
	if c.log.Clustered() { // a leader that is cut off would answer from its own copy
		if _, err := c.log.Position(ctx); err != nil {
			return projection.Checkpoint{}, projection.Gate{}, fmt.Errorf("client: checkpoint %q: %w", id, err)
		}
	}
	cp, g, err := c.look(ctx, id)
	if err == nil && g.Blocked != 0 {
		err = fmt.Errorf("client: %w", &BlockedError{cp, g.Blocked})
	}
	return cp, g, err
}

// request reads the request that stands behind a checkpoint's request guard.
func (c *Client) request(ctx context.Context, id string) (projection.Checkpoint, error) {
	r, err := c.firstBehind(ctx, wire.GuardSubject(event.GuardRequest, id))
	if err != nil {
		return projection.Checkpoint{}, fmt.Errorf("client: checkpoint %s: %w", id, err)
	}
	if r == nil || r.Type != event.CheckpointRequested {
		return projection.Checkpoint{}, fmt.Errorf("client: checkpoint %q: %w", id, ErrUnknownCheckpoint)
	}
	c.imports.believe(ctx, r)
	cp, err := projection.NewCheckpoint(*r)
	if err != nil || cp.ID != id {
		return cp, fmt.Errorf("client: checkpoint %q: %w", id, ErrUnknownCheckpoint)
	}
	return cp, nil
}

// firstBehind reads the event that was written with the first message of a guard that is
// written only once. It returns nil if the guard was never written.
func (c *Client) firstBehind(ctx context.Context, guard string) (*event.Recorded, error) {
	m, err := c.log.Last(ctx, guard)
	if err == nil && m == nil {
		err = c.log.NeverWritten(ctx, guard)
	}
	if err != nil || m == nil {
		return nil, err
	}
	r, err := c.log.Behind(ctx, event.Sequence(m.Sequence), m.Data)
	if err == nil && r == nil {
		err = fmt.Errorf("%s (seq %d) stands without its event: somebody wrote it by hand, or the store is damaged", guard, m.Sequence)
	}
	return r, err
}

// List lists the checkpoints in the order of their requests; with pending, only the
// undecided ones.
func (cps Checkpoints) List(ctx context.Context, pending bool) ([]projection.Checkpoint, error) {
	c := cps.c
	var f projection.Checkpoints
	if _, _, err := c.fold(ctx, &f); err != nil {
		return nil, err
	}
	return f.All(pending), nil
}

// Wait blocks until the checkpoint is decided, and returns it with its decision. Any
// number of callers may wait, before and after the decision, and all get the same answer.
// Wait continues through restarts of the broker until ctx ends. While a guard blocks the
// checkpoint, Wait waits until an operator voids the guard.
func (cps Checkpoints) Wait(ctx context.Context, id string) (projection.Checkpoint, error) {
	c := cps.c
	cp, g, err := c.lookNow(ctx, id)
	if err != nil && !c.blocked(err) || cp.Decision != nil {
		return cp, err
	}
	guard := wire.GuardSubject(event.GuardCheckpoint, id)
	for m, err := range c.log.Feed(ctx, logio.FeedConfig{Subjects: []string{guard}, After: max(cp.Seq, g.At)}) {
		for {
			if err != nil {
				return cp, fmt.Errorf("client: wait for checkpoint %s: %w", id, err)
			}
			cp, g, err = c.lookNow(ctx, id)
			if err != nil && !c.blocked(err) || cp.Decision != nil {
				return cp, err
			}
			if g.At >= m.Seq {
				break
			}
			_, err = c.log.Barrier(ctx) // the replica that answered lags
		}
	}
	return cp, fmt.Errorf("client: wait for checkpoint %s: %w", id, ctx.Err())
}

// blocked logs that a checkpoint waits for an operator to void its guard.
func (c *Client) blocked(err error) bool {
	if !errors.Is(err, ErrBlocked) {
		return false
	}
	c.cfg.Logger.Warn("waiting", "err", err)
	return true
}

// Approval approves a checkpoint, in a human's name.
type Approval struct {
	By      string          // the human's name; never the asker's
	Option  string          // one of the request's, where it has any
	Answer  json.RawMessage // must satisfy the request's schema; optional if it has none
	Comment string
	// EventID names the event of this call, so that a retry is stored once and returns
	// the first result. Default: a new UUIDv7.
	EventID string
}

// Approve decides a checkpoint. An error means that it decided nothing:
// ErrUnknownCheckpoint, ErrUnknownOption, ErrAnswer, ErrOwnCheckpoint, or a *DecidedError
// with the decision that stands.
func (cps Checkpoints) Approve(ctx context.Context, id string, a Approval) (projection.Checkpoint, error) {
	c := cps.c
	if a.Answer != nil {
		if err := event.ValidateJSON("answer", a.Answer, 2); err != nil {
			return projection.Checkpoint{}, fmt.Errorf("client: %w", err)
		}
	}
	return c.decide(ctx, id, decision{event.CheckpointApproved, a.By, a.EventID, event.Approved{
		CheckpointID: id, ApprovedBy: a.By, SelectedOption: a.Option, Answer: a.Answer, Comment: a.Comment,
	}})
}

// Rejection rejects a checkpoint, in a human's name.
type Rejection struct {
	By     string // the human's name; never the asker's
	Reason string
	// EventID names the event of this call, so that a retry is stored once and returns
	// the first result. Default: a new UUIDv7.
	EventID string
}

// Reject rejects a checkpoint. Its errors are those of Approve.
func (cps Checkpoints) Reject(ctx context.Context, id string, r Rejection) (projection.Checkpoint, error) {
	return cps.c.decide(ctx, id, decision{event.CheckpointRejected, r.By, r.EventID, event.Rejected{CheckpointID: id, RejectedBy: r.By, Reason: r.Reason}})
}

// Cancellation withdraws a question.
type Cancellation struct {
	By     string // the name of the person or program that withdraws it
	Reason string
	// EventID names the event of this call, so that a retry is stored once and returns
	// the first result. Default: a new UUIDv7.
	EventID string
}

// Cancel withdraws a checkpoint. A cancellation is a decision, and neither the asker nor
// an agent's key may decide. For them, Cancel asks the sweeper and waits for it, until
// ctx ends and at most 5 seconds. If the sweeper has not cancelled by then, the returned
// checkpoint is still pending, with CancelRequested set.
func (cps Checkpoints) Cancel(ctx context.Context, id string, w Cancellation) (projection.Checkpoint, error) {
	cp, err := cps.c.decide(ctx, id, decision{event.CheckpointCancelled, w.By, w.EventID, event.Cancelled{CheckpointID: id, CancelledBy: w.By, Reason: w.Reason}})
	if !errors.Is(err, ErrOwnCheckpoint) && !errors.Is(err, ErrNotAllowed) {
		return cp, err
	}
	return cps.c.Deadlines().RequestCancel(ctx, id, w)
}

// RequestCancel asks the sweeper to cancel a checkpoint; see Cancel.
func (dl Deadlines) RequestCancel(ctx context.Context, id string, w Cancellation) (projection.Checkpoint, error) {
	c := dl.c
	cp, err := c.Checkpoints().Get(ctx, id)
	if err != nil {
		return cp, err
	}
	if cp.Decision != nil {
		return cp, fmt.Errorf("client: %w", &DecidedError{cp})
	}
	payload, err := event.Marshal(event.CancelRequested{CheckpointID: id, RequestedBy: w.By, Reason: w.Reason})
	if err == nil {
		_, err = c.Append(ctx, event.Event{ID: w.EventID, Type: event.CheckpointCancelRequested, StreamID: cp.StreamID, CorrelationID: cp.CorrelationID, Actor: w.By, Payload: payload})
	}
	if err != nil {
		return cp, err
	}
	cp.CancelRequested, cp.CancelBy, cp.CancelReason = true, w.By, w.Reason
	wait, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	if done, err := c.Checkpoints().Wait(wait, id); err == nil {
		return done, nil
	}
	return cp, ctx.Err()
}

const cancelWait = 5 * time.Second

// decision is an event that is to decide a checkpoint.
type decision struct {
	typ, by string
	eventID string // default: a new one
	payload any
}

// decide appends a decision to the stream of its request. Each step feeds the next:
// decide reads the request and its gate once, applies the rules, and stores the event
// behind the guard.
func (c *Client) decide(ctx context.Context, id string, d decision) (projection.Checkpoint, error) {
	cp, g, err := c.lookNow(ctx, id)
	if err != nil {
		return cp, err
	}
	r, err := c.decisionEvent(cp, d)
	if err != nil {
		return cp, err
	}
	var p *protection
	if err = c.mayAppend(r); err == nil {
		p, err = c.protectDecisionOf(ctx, &r, cp, g)
	}
	if err == nil {
		r, err = c.appendProtected(ctx, r, p)
	}
	var decided *DecidedError
	if errors.As(err, &decided) {
		cp = decided.Checkpoint
	}
	if err != nil {
		return cp, fmt.Errorf("client: %w", err)
	}
	_, stands, err := projection.NewDecision(r)
	cp.Decision, cp.Status = &stands, stands.Status
	return cp, err
}

// decisionEvent is the event of a decision about cp.
func (c *Client) decisionEvent(cp projection.Checkpoint, d decision) (event.Recorded, error) {
	payload, err := event.Marshal(d.payload)
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: checkpoint %s: %w", cp.ID, err)
	}
	return c.prepare(event.Event{
		ID: d.eventID, Type: d.typ, StreamID: cp.StreamID, CorrelationID: cp.CorrelationID, CausationID: cp.EventID, Actor: d.by, Payload: payload,
	})
}

// Cancel cancels for the one who asked the sweeper to. Only the sweeper calls it.
func (dl Deadlines) Cancel(ctx context.Context, cp projection.Checkpoint, reason string) (projection.Checkpoint, error) {
	return dl.c.decide(ctx, cp.ID, decision{typ: event.CheckpointCancelled, by: SweeperActor, payload: event.Cancelled{
		CheckpointID: cp.ID, CancelledBy: SweeperActor, Reason: reason,
	}})
}
