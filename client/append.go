package client

import (
	"context"
	"fmt"
	"slices"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Append stores one event and returns it as recorded, once it is durable. It fills in
// missing fields: ID, Timestamp, CorrelationID, Payload, and StreamID if Config has one.
// It does not change e.
//
// Append retries with the same ID until the context ends. Its errors *event.InvalidError,
// *TooLargeError, ErrDiskFull, ErrDiskReadOnly, ErrDuplicateID and *RefusedError mean
// that nothing was stored. ErrUnknownOutcome means that the context ended first. To
// append an event again under its ID is safe: within the Log's duplicate window the call
// returns the event as it was first recorded.
//
// Requests and decisions of checkpoints, and the creation and end of intents, follow the
// rules of the calls for them (Checkpoints.Request, Checkpoints.Approve, Intents.Create,
// …), with their errors: no append bypasses a guard.
func (c *Client) Append(ctx context.Context, e event.Event) (event.Recorded, error) {
	r, err := c.prepare(e)
	if err != nil {
		return event.Recorded{}, err
	}
	p, err := c.protect(ctx, &r)
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.Type, err)
	}
	if p != nil {
		return c.appendProtected(ctx, r, p)
	}
	return c.log.Publish(ctx, r)
}

// prepare fills in and checks an event.
func (c *Client) prepare(e event.Event) (event.Recorded, error) {
	if e.ID == "" {
		e.ID = event.NewID()
	}
	if e.Timestamp = event.Milli(e.Milli()).Time; e.Timestamp.IsZero() {
		e.Timestamp = event.Now()
	}
	if e.CorrelationID == "" {
		e.CorrelationID = c.cfg.CorrelationID
	}
	if e.StreamID == "" {
		e.StreamID = c.cfg.StreamID
	}
	if len(e.Payload) == 0 {
		e.Payload = []byte("{}")
	}
	err := e.Validate()
	if err == nil {
		err = event.ValidateTimestamp(e.Timestamp)
	}
	if err == nil {
		err = wire.CheckProtected(e)
	}
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: %w", err)
	}
	e.Payload = event.Compact(e.Payload) // a copy: the caller keeps its payload
	if e.Metadata != nil {
		e.Metadata = event.Compact(e.Metadata)
	}
	e.Metadata = event.WithWorktree(e.Metadata, c.cfg.Worktree)
	e.Extra = slices.Clone(e.Extra)
	for i := range e.Extra {
		e.Extra[i].Value = event.Compact(e.Extra[i].Value)
	}
	return event.Recorded{Event: e}, nil
}
