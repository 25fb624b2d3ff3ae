package logio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Get reads one stored message. If its batch is not committed, Get waits.
//
// On a cluster, a leader that was cut off or just elected may lack the message. If seq is
// not after what this client knows, Get asks again, for a while.
func (l *Log) Get(ctx context.Context, seq event.Sequence) (*jetstream.RawStreamMsg, error) {
	patience := time.Now().Add(logPatience)
	var m *jetstream.RawStreamMsg
	err := l.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*l.stream.Load()).GetMsg(ctx, uint64(seq))
		if err == nil {
			err = l.settledOnly(ctx, m)
		}
		if l.clustered && errors.Is(err, jetstream.ErrMsgNotFound) && uint64(seq) <= l.known.Load() && time.Now().Before(patience) {
			return fmt.Errorf("%d is not there, and %d is known: %w", seq, l.known.Load(), errStale)
		}
		return err
	})
	return m, err
}

// Last reads the last settled message on one literal subject; nil if there is none.
func (l *Log) Last(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := l.lastStored(ctx, subject)
	if m == nil || err != nil {
		return nil, err
	}
	if _, open := wire.OpenBatch(m.Header); !open {
		return m, nil
	}
	at, err := l.boundary(ctx, event.Sequence(m.Sequence))
	if err != nil || at >= event.Sequence(m.Sequence) {
		return m, err
	}
	return l.lastBefore(ctx, subject, at)
}

func (l *Log) lastStored(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if l.clustered {
		return l.freshLast(ctx, subject)
	}
	var m *jetstream.RawStreamMsg
	err := l.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*l.stream.Load()).GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	return m, err
}

// next reads the first message from a Sequence on that is on one literal subject; nil if
// there is none. If its batch is not committed, next waits.
func (l *Log) next(ctx context.Context, subject string, from event.Sequence) (*jetstream.RawStreamMsg, error) {
	var m *jetstream.RawStreamMsg
	err := l.retry(ctx, func(ctx context.Context) error {
		var err error
		m, err = (*l.stream.Load()).GetMsg(ctx, uint64(from), jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		if m != nil && err == nil {
			err = l.settledOnly(ctx, m)
		}
		return err
	})
	return m, err
}

// CountOn returns how many messages the engine counts on a literal subject.
func (l *Log) CountOn(ctx context.Context, subject string) (n uint64, err error) {
	err = l.retry(ctx, func(ctx context.Context) error {
		info, err := (*l.stream.Load()).Info(ctx, jetstream.WithSubjectFilter(subject))
		if err == nil {
			n = info.State.Subjects[subject]
		}
		return err
	})
	return n, err
}

// CountAfter asks the engine how many messages a reader would get.
func (l *Log) CountAfter(ctx context.Context, subjects []string, after event.Sequence) (uint64, error) {
	f := &feed{log: l, cfg: FeedConfig{Subjects: subjects, HeadersOnly: true}, at: after}
	var n uint64
	err := l.retry(ctx, func(ctx context.Context) error {
		cons, pending, err := f.consumer(ctx)
		if err == nil {
			n = pending
			f.drop(ctx, cons)
		}
		return err
	})
	return n, err
}
