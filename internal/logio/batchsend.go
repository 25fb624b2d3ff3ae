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

// checkBatch is checkSize for all messages of a batch.
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

// CheckEvent is checkSize for an event that is not composed yet, and is only where it
// might be too large for the limit.
func (l *Log) CheckEvent(r *event.Recorded, limit int) error {
	if !l.rights.Limited && wire.SizeAtMost(r)+HeaderRoom <= limit {
		return nil
	}
	return l.checkSize(wire.Encode(*r))
}

// tryBatch publishes once, under a batch id of its own. The first message asks for an
// answer, so that a batch that the server does not begin is not sent whole. The others
// are composed as they are sent: the server needs longer for each than this does.
func (l *Log) tryBatch(ctx context.Context, b Batch) (*jetstream.PubAck, error) {
	ctx, cancel := l.attempt(ctx)
	defer cancel()
	switch len(b) {
	case 0:
		return nil, errors.New("client: an empty batch")
	case 1: // a lone guard: batches are dear
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

// compose gives the entry's message as the next one of a batch.
func (e *Entry) compose(w *wire.Batch, commit bool) *nats.Msg {
	if e.msg != nil {
		return w.Message(e.msg, commit)
	}
	return w.Event(e.event, commit)
}

// begin sends a batch's first message and reads the server's answer, which is
// empty when all is well.
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
