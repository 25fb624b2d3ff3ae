package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// Guard is a caller's own compare-and-set: the position of a name, which each append
// behind it moves.
type Guard struct {
	// Name is any non-empty string of at most 256 bytes.
	Name string
	// Expected is the guard's last Sequence that the caller knows; 0 for a guard that was
	// never written.
	Expected event.Sequence
	// Data is any JSON that the guard stores; optional.
	Data json.RawMessage
}

// AppendGuarded appends events if and only if the guard's last Sequence is the expected
// one: all of them or nothing. It returns the guard's new Sequence, which is a fencing
// token: greater than every earlier one. Without events it only moves the guard, which
// costs far less than a batch.
//
// The loser gets a *ConflictError with the guard's Sequence and the event that won. If
// the answer is lost, AppendGuarded reads the guard: a caller that gets a Sequence has
// won.
func (c *Client) AppendGuarded(ctx context.Context, g Guard, events ...event.Event) (event.Sequence, []event.Recorded, error) {
	if err := event.ValidateID("guard", g.Name); err != nil {
		return 0, nil, fmt.Errorf("client: %w", err)
	}
	if g.Data != nil {
		if err := event.ValidateJSON("guard data", g.Data, 1); err != nil {
			return 0, nil, fmt.Errorf("client: %w", err)
		}
	}
	if len(events) > event.MaxBatchLen {
		return 0, nil, fmt.Errorf("client: %w", &event.InvalidError{
			Field: "batch", Value: fmt.Sprintf("%d events", len(events)), Rule: "must hold at most 999 events behind a guard"})
	}
	subject := wire.GuardSubject(event.GuardUser, g.Name)
	body := wire.GuardBody{Event: rand.Text(), Data: g.Data} // unique, so that a retry recognises its own
	b := make(logio.Batch, 1, len(events)+1)
	recorded := make([]event.Recorded, 0, len(events)) // must not be reallocated: the batch points into it
	for i, e := range events {
		r, err := c.prepare(e)
		if err == nil && needsGuard(r.Event) {
			err = fmt.Errorf("client: %w", &event.InvalidError{Field: "type", Value: r.Type, Rule: "has a guard of its own: append it by itself"})
		}
		if err != nil {
			return 0, nil, fmt.Errorf("client: event %d behind the guard: %w", i+1, errors.Unwrap(err))
		}
		r.Guard = subject
		if i == 0 {
			body.Event, body.Type = r.ID, r.Type
		}
		recorded = append(recorded, r)
		b = append(b, logio.OfEvent(&recorded[i]))
	}
	b[0] = logio.OfGuard(subject, body.Encode(), g.Expected)
	if err := c.log.PublishBatch(ctx, b); err != nil {
		return 0, nil, err
	}
	return b[0].Seq(), recorded, nil
}

// GuardPosition returns the last Sequence of a caller's own guard; 0 if it was never
// written.
func (c *Client) GuardPosition(ctx context.Context, name string) (event.Sequence, error) {
	if err := event.ValidateID("guard", name); err != nil {
		return 0, fmt.Errorf("client: %w", err)
	}
	m, err := c.log.Last(ctx, wire.GuardSubject(event.GuardUser, name))
	if err != nil || m == nil {
		return 0, err
	}
	return event.Sequence(m.Sequence), nil
}

func needsGuard(e event.Event) bool {
	_, _, ok := wire.Protected(e)
	return ok
}
