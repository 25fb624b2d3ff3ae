package client

import (
	"context"
	"errors"
	"fmt"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// AppendBatch stores 1 to 999 events one after the other, all of them or none. The rules
// of Append for fields and errors hold for the batch as a whole. Events without a
// Timestamp get the same one. AppendBatch checks all events before it sends any.
//
// A batch has a cost of its own (about 7 ms of file system work in the engine, for 2
// events as for 100) and holds up other appenders for that time. Use it for events that
// belong together, and for many events at once.
func (c *Client) AppendBatch(ctx context.Context, events []event.Event) ([]event.Recorded, error) {
	if len(events) == 0 || len(events) > event.MaxBatchLen {
		return nil, fmt.Errorf("client: %w", &event.InvalidError{
			Field: "batch", Value: fmt.Sprintf("%d events", len(events)), Rule: "must hold 1 to 999 events"})
	}
	if len(events) == 1 {
		r, err := c.Append(ctx, events[0])
		if err != nil {
			return nil, err
		}
		return []event.Recorded{r}, nil
	}
	prepared, err := c.prepareBatch(events)
	if err != nil {
		return nil, err
	}
	b, lost, err := c.protectBatch(ctx, prepared)
	if err != nil {
		return nil, err
	}
	err = c.log.PublishBatch(ctx, b)
	var conflict *ConflictError
	if errors.As(err, &conflict) && lost[conflict.Guard] != nil {
		if _, why := lost[conflict.Guard](ctx, conflict); why != nil {
			err = fmt.Errorf("client: append a batch: %w", why)
		}
	}
	if err != nil {
		return nil, err
	}
	return prepared, nil
}

// protectBatch puts each event that needs a guard behind its guard.
func (c *Client) protectBatch(ctx context.Context, events []event.Recorded) (logio.Batch, map[string]lostFunc, error) {
	b := make(logio.Batch, 0, len(events))
	lost, ended := map[string]lostFunc{}, map[string]bool{}
	for i := range events {
		r := &events[i]
		subject, body, ok := wire.Protected(r.Event)
		if _, created := lost[subject]; ok && created {
			// The end of an intent that this batch creates: the batch is atomic, so
			// nothing is stored in between. No other pair of events may move one guard
			// twice.
			if !event.EndsIntent(r.Type) || ended[subject] {
				return nil, nil, fmt.Errorf("client: event %d of the batch: %w", i+1, &event.InvalidError{
					Field: "type", Value: r.Type, Rule: "moves " + subject + " a second time in one batch"})
			}
			r.Guard = subject
			ended[subject] = true
			b = append(b, logio.OfGuardAgain(subject, body.Encode()), logio.OfEvent(r))
			continue
		}
		p, err := c.protect(ctx, r)
		if err == nil && p != nil && p.stored != 0 { // this whole batch may be stored: then the engine refuses it, and explain returns the stored events
			id, at := r.ID, p.stored
			p = &protection{guard: subject, body: body.Encode(), lost: func(context.Context, *ConflictError) (event.Recorded, error) {
				return event.Recorded{}, fmt.Errorf("%w: %s is stored at %d", ErrDuplicateID, id, at)
			}}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("client: event %d of the batch: %w", i+1, err)
		}
		if p != nil {
			r.Guard = p.guard
			lost[p.guard] = p.lost
			ended[p.guard] = event.EndsIntent(r.Type)
			b = append(b, logio.OfGuard(p.guard, p.body, p.expected))
		}
		b = append(b, logio.OfEvent(r))
	}
	return b, lost, nil
}

// prepareBatch prepares all events of a batch, with one Timestamp.
func (c *Client) prepareBatch(events []event.Event) ([]event.Recorded, error) {
	out := make([]event.Recorded, len(events))
	ids, now := event.NewIDs(len(events)), event.Now() // all at once is cheaper
	for i, e := range events {
		if e.ID == "" {
			e.ID = ids[i]
		}
		if e.Milli() == 0 {
			e.Timestamp = now
		}
		var err error
		if out[i], err = c.prepare(e); err != nil {
			return nil, fmt.Errorf("client: event %d of the batch: %w", i+1, errors.Unwrap(err))
		}
	}
	return out, nil
}
