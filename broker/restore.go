package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/internal/wire"
)

// restoreTime bounds what a host does for a restore.
const restoreTime = 30 * time.Second

// answerRestores does for a restore, in another process or at another node, what nobody
// but the host may do with the Log's stream. Agents and operators have no way to ask.
func (b *Broker) answerRestores() error {
	_, err := b.admin.QueueSubscribe(wire.RestoreSubject, "host", func(m *nats.Msg) {
		var a wire.RestoreAnswer
		if err := b.restore(m.Data); err != nil {
			a.Error = err.Error()
		}
		if body, err := json.Marshal(a); err == nil {
			_ = m.Respond(body) // whoever asked has gone
		}
	})
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

func (b *Broker) restore(body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
	defer cancel()
	var q wire.RestoreRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return fmt.Errorf("broker: the request cannot be read: %w", err)
	}
	switch {
	case q.Mark != nil:
		defer b.keepConfig()
		return wire.MarkLog(ctx, b.js, *q.Mark)
	case q.First > 0:
		return b.RecreateLog(ctx, q.First)
	}
	return errors.New("broker: the request asks for nothing")
}
