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

// Barrier returns a Sequence that is not before any event whose append had
// returned, to whomever, when Barrier was called. Reads of this client that begin
// after it (queries, lists of checkpoints and intents, Resume) see at least all up
// to there.
//
// On a cluster it stores one small guard, since only a message that a majority took
// shows that nobody has been ahead; those who call it at the same time share one.
// On a single host it stores nothing and is Position. Its errors are those of
// Append; a barrier of which nobody knows the outcome does no harm.
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

// StoreBarrier stores one guard. Of a try without an answer it does not matter
// whether it was stored: the next one is another barrier.
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

// CountBarriers counts the barriers in the Log, of all clients. Like any read, it
// waits for the server as long as ctx lasts.
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
