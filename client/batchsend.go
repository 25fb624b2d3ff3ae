package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// prepareBatch is prepare for all events of a batch, which are given one time.
func (c *Client) prepareBatch(events []event.Event) ([]event.Recorded, error) {
	out := make([]event.Recorded, len(events))
	ids, now := event.NewIDs(len(events)), event.Now() // at once, which is cheaper
	for i, e := range events {
		if e.ID == "" {
			e.ID = ids[i]
		}
		if e.Timestamp == 0 {
			e.Timestamp = now
		}
		var err error
		if out[i], err = c.prepare(e); err != nil {
			return nil, fmt.Errorf("client: event %d of the batch: %w", i+1, errors.Unwrap(err))
		}
	}
	return out, nil
}

// checkBatch is checkSize for all messages of a batch.
func (c *Client) checkBatch(b batch) error {
	limit := c.MaxPayload()
	for i := range b {
		var err error
		if b[i].msg != nil {
			err = c.checkSize(b[i].msg)
		} else {
			err = c.checkEvent(b[i].event, limit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkEvent is checkSize for an event that is not composed yet, and is only where it
// might be too large for the limit.
func (c *Client) checkEvent(r *event.Recorded, limit int) error {
	if !c.rights.limited && wire.SizeAtMost(r)+headerRoom <= limit {
		return nil
	}
	return c.checkSize(wire.Encode(*r))
}

// tryBatch publishes once, under a batch id of its own. The first message asks for an
// answer, so that a batch that the server does not begin is not sent whole. The others
// are composed as they are sent: the server needs longer for each than this does.
func (c *Client) tryBatch(ctx context.Context, b batch) (*jetstream.PubAck, error) {
	ctx, cancel := c.attempt(ctx)
	defer cancel()
	switch len(b) {
	case 0:
		return nil, errors.New("client: an empty batch")
	case 1: // a lone guard: batches are dear
		return c.js.PublishMsg(ctx, b[0].msg, jetstream.WithRetryAttempts(0))
	}
	w := wire.NewBatch(rand.Text())
	if err := c.begin(ctx, b[0].compose(w, false)); err != nil {
		return nil, err
	}
	last := len(b) - 1
	for i := 1; i < last; i++ {
		if err := c.nc.PublishMsg(b[i].compose(w, false)); err != nil {
			return nil, err
		}
	}
	return c.js.PublishMsg(ctx, b[last].compose(w, true), jetstream.WithRetryAttempts(0))
}

// compose gives the entry's message as the next one of a batch.
func (e *entry) compose(w *wire.Batch, commit bool) *nats.Msg {
	if e.msg != nil {
		return w.Message(e.msg, commit)
	}
	return w.Event(e.event, commit)
}

// begin sends a batch's first message and reads the server's answer, which is
// empty when all is well.
func (c *Client) begin(ctx context.Context, m *nats.Msg) error {
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	if len(answer.Data) == 0 {
		return nil
	}
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &refusal); err != nil || refusal.Error == nil {
		return fmt.Errorf("client: the server answered the begin of a batch with %q", answer.Data)
	}
	return refusal.Error
}
