package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// ErrBlocked is a *BlockedError.
var ErrBlocked = errors.New("nobody can decide")

// BlockedError is a checkpoint whose guard holds a message without a decision, written by
// hand or left by damage to the store. Nobody can decide until an operator calls
// Admin.VoidGuard.
type BlockedError struct {
	Checkpoint projection.Checkpoint
	Seq        event.Sequence // of the guard message
}

func (e *BlockedError) Error() string {
	guard := wire.GuardSubject(event.GuardCheckpoint, e.Checkpoint.ID)
	return fmt.Sprintf("checkpoint %q: %v: %s (seq %d) stands without its event: somebody wrote it by hand, or the store is damaged; if 'dstream doctor' finds no damage, an operator may void it: dstream checkpoint void-guard",
		e.Checkpoint.ID, ErrBlocked, guard, e.Seq)
}

// Unwrap returns ErrBlocked.
func (e *BlockedError) Unwrap() error { return ErrBlocked }

// look reads the present state of a checkpoint and its gate.
func (c *Client) look(ctx context.Context, id string) (projection.Checkpoint, projection.Gate, error) {
	cp, err := c.request(ctx, id)
	if err != nil {
		return cp, projection.Gate{}, err
	}
	g, d, err := c.gate(ctx, cp, false)
	if err != nil {
		return cp, g, fmt.Errorf("client: checkpoint %q: %w", id, err)
	}
	if d != nil {
		cp.Decision, cp.Status = d, d.Status
	}
	cp.Blocked = g.Blocked
	return cp, g, nil
}

// gateLooks is the number of attempts to read a gate while others write to it.
const gateLooks = 5

// gate reads all messages of a checkpoint's guard and the events behind them, and returns
// the decision if there is one. An unreadable message must not open the gate: the engine
// leaves out a damaged message, but still counts it among the subject's messages. With
// whole, gate also requires that it can read the event behind each message.
func (c *Client) gate(ctx context.Context, cp projection.Checkpoint, whole bool) (g projection.Gate, d *projection.Decision, err error) {
	guard := wire.GuardSubject(event.GuardCheckpoint, cp.ID)
	for range gateLooks {
		last, err := c.log.Last(ctx, guard)
		if err == nil && last == nil {
			err = c.log.NeverWritten(ctx, guard)
		}
		if err != nil || last == nil {
			return g, nil, err
		}
		g = projection.Gate{}
		if isFirst(last) { // the usual case
			d, err = c.step(ctx, &g, cp, event.Sequence(last.Sequence), last.Data, whole)
			if err != nil || d != nil {
				return g, d, err
			}
		}
		g = projection.Gate{}
		read := uint64(0)
		for m, err := range c.log.Feed(ctx, logio.FeedConfig{Subjects: []string{guard}, Until: event.Sequence(last.Sequence)}) {
			if err != nil {
				return g, nil, err
			}
			read++
			if d, err = c.step(ctx, &g, cp, m.Seq, m.Data, whole); err != nil || d != nil {
				return g, d, err
			}
		}
		written, err := c.log.CountOn(ctx, guard)
		if err != nil || written == read && g.At == event.Sequence(last.Sequence) {
			return g, nil, err
		}
	}
	return g, nil, fmt.Errorf("%s has a message that cannot be read: the log is damaged, or others write to it all the time; 'dstream doctor' says what is wrong", guard)
}

// step applies one guard message and the event directly behind it.
func (c *Client) step(ctx context.Context, g *projection.Gate, cp projection.Checkpoint, seq event.Sequence, body []byte, whole bool) (*projection.Decision, error) {
	var b wire.GuardBody
	_ = json.Unmarshal(body, &b) // one that says nothing stands all the same
	g.Message(seq, b.Event)
	m, err := c.log.Get(ctx, seq+1)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		if whole {
			err = fmt.Errorf("what stands behind its guard (seq %d) cannot be read: the log is damaged; 'dstream doctor' says what is wrong and repairs it", seq)
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := wire.Decode(m.Subject, m.Data, seq+1)
	if err != nil {
		return nil, nil //nolint:nilerr // what follows is not the guard's event
	}
	if r.Type == event.CheckpointGuardVoided {
		var p event.GuardVoided
		if json.Unmarshal(r.Payload, &p) == nil && p.CheckpointID == cp.ID {
			g.Apply(r)
		}
		return nil, nil
	}
	if !event.IsDecision(r.Type) || seq < cp.Seq {
		return nil, nil
	}
	of, d, err := projection.NewDecision(r)
	if err != nil || of != cp.ID || !g.Apply(r) {
		return nil, nil //nolint:nilerr // it decides nothing
	}
	return &d, nil
}

// isFirst reports whether the server stored a message as the first on its subject.
func isFirst(m *jetstream.RawStreamMsg) bool {
	return slices.Equal(m.Header[wire.HeaderExpectedLastSubject], []string{"0"}) && m.Header.Get(wire.HeaderExpectedOther) == ""
}

// VoidGuard opens a checkpoint whose guard was written without a decision, and returns
// it, pending. On a server with roles it needs an operator's key. Errors: *DecidedError
// if there is a decision, and *event.InvalidError if nothing blocks the checkpoint.
func (adm Admin) VoidGuard(ctx context.Context, id, by, reason string) (projection.Checkpoint, error) {
	c := adm.c
	if err := event.ValidateID("checkpoint", id); err != nil {
		return projection.Checkpoint{}, fmt.Errorf("client: %w", err)
	}
	cp, g, err := c.look(ctx, id)
	if err != nil {
		return cp, err
	}
	payload, err := event.Marshal(event.GuardVoided{CheckpointID: id, GuardSeq: g.Blocked, VoidedBy: by, Reason: reason})
	if err == nil {
		_, err = c.Append(ctx, event.Event{
			Type: event.CheckpointGuardVoided, StreamID: cp.StreamID, CorrelationID: cp.CorrelationID, Actor: by, Payload: payload,
		})
	}
	if err != nil {
		return cp, err
	}
	return c.Checkpoints().Get(ctx, id)
}

// protectVoid guards the void of a guard. It expects the guard's last message, so that
// nothing is stored between the read and the void. It requires that all of the guard was
// read, since otherwise a decision that cannot be read would be made a second time.
func (c *Client) protectVoid(ctx context.Context, r *event.Recorded) (*protection, error) {
	var p event.GuardVoided
	if err := json.Unmarshal(r.Payload, &p); err != nil || p.CheckpointID == "" {
		return nil, &event.InvalidError{Field: "payload.checkpoint_id", Value: p.CheckpointID, Rule: "must name the checkpoint whose guard is voided"}
	}
	subject, body, err := guardOf(r, event.GuardCheckpoint, "checkpoint_id", p.CheckpointID)
	if err == nil {
		err = c.mayStore(subject)
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.log.StoreBarrier(ctx); err != nil { // so that something stands behind each guard
		return nil, err
	}
	cp, err := c.request(ctx, p.CheckpointID)
	if err != nil {
		return nil, err
	}
	g, d, err := c.gate(ctx, cp, true)
	switch {
	case err != nil:
		return nil, fmt.Errorf("checkpoint %q: %w", cp.ID, err)
	case d != nil:
		cp.Decision, cp.Status = d, d.Status
		return nil, &DecidedError{cp}
	case g.Blocked == 0 && g.Event == r.ID:
		return &protection{stored: g.At + 1}, nil
	case g.Blocked == 0:
		return nil, &event.InvalidError{Field: "checkpoint", Value: cp.ID, Rule: "must have a guard without a decision: nothing keeps this one from being decided"}
	case p.GuardSeq != 0 && p.GuardSeq != g.Blocked:
		return nil, &event.InvalidError{Field: "payload.guard_seq", Value: p.GuardSeq.String(), Rule: "must be that of the guard without a decision, " + g.Blocked.String()}
	}
	lost := func(_ context.Context, conflict *ConflictError) (event.Recorded, error) {
		return event.Recorded{}, conflict
	}
	return &protection{guard: subject, expected: g.At, body: body.Encode(), lost: lost}, nil
}
