package logio

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Barrier returns a Sequence that is at or after every event whose append had returned,
// in any process, when Barrier was called. Reads of this client that begin after it
// (queries, lists of checkpoints and intents, Resume) see at least everything up to
// there.
//
// On a cluster it stores one small guard, since only a message that a majority stored
// proves that no other leader is ahead; concurrent callers share one guard. On a single
// host it stores nothing and equals Position. Its errors are those of Append; a barrier
// of unknown outcome is harmless.
func (l *Log) Barrier(ctx context.Context) (event.Sequence, error) {
	if !l.clustered {
		return l.Position(ctx)
	}
	for {
		seq, err, again := l.barrier.pass(ctx, l.StoreBarrier)
		if !again {
			if err != nil {
				return 0, fmt.Errorf("barrier: %w", err)
			}
			return seq, nil
		}
	}
}

// Barriers counts the barriers that this client has stored.
func (l *Log) Barriers() uint64 { return l.barrier.stored.Load() }

// barriers lets callers share barriers.
type barriers struct {
	*sharing[event.Sequence]
	subject string // this client's own
	stored  atomic.Uint64
}

func newBarriers() *barriers {
	return &barriers{sharing: newSharing[event.Sequence](), subject: wire.GuardSubject(event.GuardBarrier, rand.Text())}
}

// StoreBarrier stores one guard. It does not matter whether an attempt without an answer
// was stored: the next attempt is another barrier.
func (l *Log) StoreBarrier(ctx context.Context) (event.Sequence, error) {
	m := wire.EncodeGuard(l.barrier.subject, wire.GuardBody{}.Encode())
	s := newSending(l)
	for {
		if err := s.ended(ctx); err != nil {
			return 0, err
		}
		ack, err := l.tryPublish(ctx, m)
		if err == nil {
			l.barrier.stored.Add(1)
			l.sawSequence(event.Sequence(ack.Sequence))
			return event.Sequence(ack.Sequence), nil
		}
		if err := s.failed(ctx, err); err != nil {
			return 0, err
		}
	}
}

// CountBarriers counts the barriers in the Log, of all clients. Like any read, it waits
// for the server until ctx ends.
func (l *Log) CountBarriers(ctx context.Context) (uint64, error) {
	var n uint64
	err := l.retry(ctx, func(ctx context.Context) error {
		s, err := l.js.Stream(ctx, wire.LogName)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(wire.GuardFilter(event.GuardBarrier)))
		if err != nil {
			return err
		}
		n = 0
		for _, messages := range info.State.Subjects {
			n += messages
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("client: cannot count the barriers: %w", err)
	}
	return n, nil
}
