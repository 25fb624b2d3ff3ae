package logio

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

// checkBatch calls checkSize for all messages of a batch.
func (l *Log) checkBatch(b Batch) error {
	limit := l.MaxPayload()
	for i := range b {
		var err error
		if b[i].msg != nil {
			err = l.checkSize(b[i].msg)
		} else {
			err = l.CheckEvent(b[i].event, limit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckEvent is checkSize for an event that is not encoded yet. It encodes the event only
// if it might exceed the limit.
func (l *Log) CheckEvent(r *event.Recorded, limit int) error {
	if !l.rights.Limited && wire.SizeAtMost(r)+HeaderRoom <= limit {
		return nil
	}
	return l.checkSize(wire.Encode(*r))
}

// tryBatch publishes once, under a new batch id. The first message requests an answer, so
// that a batch that the server refuses to begin is not sent whole. tryBatch encodes the
// others while it sends: the server takes longer for each message than the client.
func (l *Log) tryBatch(ctx context.Context, b Batch) (*jetstream.PubAck, error) {
	ctx, cancel := l.attempt(ctx)
	defer cancel()
	switch len(b) {
	case 0:
		return nil, errors.New("client: an empty batch")
	case 1: // a guard alone: a batch would cost more
		return l.js.PublishMsg(ctx, b[0].msg, jetstream.WithRetryAttempts(0))
	}
	w := wire.NewBatch(rand.Text())
	if err := l.begin(ctx, b[0].compose(w, false)); err != nil {
		return nil, err
	}
	last := len(b) - 1
	for i := 1; i < last; i++ {
		if err := l.nc.PublishMsg(b[i].compose(w, false)); err != nil {
			return nil, err
		}
	}
	return l.js.PublishMsg(ctx, b[last].compose(w, true), jetstream.WithRetryAttempts(0))
}

// compose returns the entry's message as the next one of a batch.
func (e *Entry) compose(w *wire.Batch, commit bool) *nats.Msg {
	if e.msg != nil {
		return w.Message(e.msg, commit)
	}
	return w.Event(e.event, commit)
}

// begin sends a batch's first message and reads the server's answer, which is empty on
// success.
func (l *Log) begin(ctx context.Context, m *nats.Msg) error {
	answer, err := l.nc.RequestMsgWithContext(ctx, m)
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
