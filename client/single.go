package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// message reads one stored message. It waits for one of a batch that is not committed.
//
// On a cluster, a leader that was cut off or just chosen may not have it yet: what is
// not after what this client knows is asked for again, for a while.
func (c *Client) message(ctx context.Context, seq event.Sequence) (*jetstream.RawStreamMsg, error) {
	patience := time.Now().Add(logPatience)
	var m *jetstream.RawStreamMsg
	err := c.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*c.log.Load()).GetMsg(ctx, uint64(seq))
		if err == nil {
			err = c.settledOnly(ctx, m)
		}
		if c.clustered && errors.Is(err, jetstream.ErrMsgNotFound) && uint64(seq) <= c.known.Load() && time.Now().Before(patience) {
			return fmt.Errorf("%d is not there, and %d is known: %w", seq, c.known.Load(), errStale)
		}
		return err
	})
	return m, err
}

// lastOn reads the last settled message on one literal subject; nil if there is none.
func (c *Client) lastOn(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := c.lastStored(ctx, subject)
	if m == nil || err != nil {
		return nil, err
	}
	if _, open := wire.OpenBatch(m.Header); !open {
		return m, nil
	}
	at, err := c.boundary(ctx, event.Sequence(m.Sequence))
	if err != nil || at >= event.Sequence(m.Sequence) {
		return m, err
	}
	return c.lastBefore(ctx, subject, at)
}

func (c *Client) lastStored(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if c.clustered {
		return c.freshLast(ctx, subject)
	}
	var m *jetstream.RawStreamMsg
	err := c.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*c.log.Load()).GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	return m, err
}

// nextOn reads the first message from a Sequence on that is on one literal subject;
// nil if there is none. It waits for one of a batch that is not committed.
func (c *Client) nextOn(ctx context.Context, subject string, from event.Sequence) (*jetstream.RawStreamMsg, error) {
	var m *jetstream.RawStreamMsg
	err := c.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*c.log.Load()).GetMsg(ctx, uint64(from), jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		if m != nil && err == nil {
			err = c.settledOnly(ctx, m)
		}
		return err
	})
	return m, err
}
