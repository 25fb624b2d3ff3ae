package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"

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
func (c *Client) Barrier(ctx context.Context) (event.Sequence, error) {
	if !c.clustered {
		return c.Position(ctx)
	}
	for {
		seq, err, again := c.barrier.pass(ctx, c.publishBarrier)
		if !again {
			if err != nil {
				return 0, fmt.Errorf("barrier: %w", err)
			}
			return seq, nil
		}
	}
}

// Barriers counts the barriers that this client has stored.
func (c *Client) Barriers() uint64 { return c.barrier.stored.Load() }

// barriers lets callers share barriers: one may be on its way, and one waits for
// it to end. Who comes joins the one that waits, since the other may have been
// stored before they asked.
//
// The first of those who share one publishes it, under its own context. If that
// ends, the others make a new one: each failure costs a caller that has gone, so
// the last one gets its turn.
type barriers struct {
	subject string        // this client's own
	way     chan struct{} // holds one token while a barrier is on its way
	stored  atomic.Uint64

	mu   sync.Mutex // guards next
	next *turn      // the one that waits; nil: none
}

type turn struct {
	done chan struct{} // closed when seq and err are set
	seq  event.Sequence
	err  error
	gone bool // err is the end of the publisher's context alone
}

func newBarriers() *barriers {
	return &barriers{subject: wire.GuardSubject(wire.GuardBarrier, rand.Text()), way: make(chan struct{}, 1)}
}

// pass takes part in one barrier; again means that its publisher has gone.
func (b *barriers) pass(ctx context.Context, publish func(context.Context) (event.Sequence, error)) (_ event.Sequence, err error, again bool) {
	b.mu.Lock()
	t := b.next
	if t != nil {
		b.mu.Unlock()
		select {
		case <-t.done:
			return t.seq, t.err, t.gone && ctx.Err() == nil
		case <-ctx.Done():
			return 0, ctx.Err(), false
		}
	}
	t = &turn{done: make(chan struct{})}
	b.next = t
	b.mu.Unlock()

	begin := func() { // nobody may join any more
		b.mu.Lock()
		b.next = nil
		b.mu.Unlock()
	}
	defer close(t.done)
	select {
	case b.way <- struct{}{}:
		defer func() { <-b.way }()
		begin()
		t.seq, t.err = publish(ctx)
	case <-ctx.Done():
		begin()
		t.err = ctx.Err()
	}
	t.gone = t.err != nil && ctx.Err() != nil
	return t.seq, t.err, false
}

// publishBarrier stores one guard. Of a try without an answer it does not matter
// whether it was stored: the next one is another barrier.
func (c *Client) publishBarrier(ctx context.Context) (event.Sequence, error) {
	m := wire.EncodeGuard(c.barrier.subject, wire.GuardBody{}.Encode())
	s := newSending(c)
	for {
		if err := s.ended(ctx); err != nil {
			return 0, err
		}
		ack, err := c.tryPublish(ctx, m)
		if err == nil {
			c.barrier.stored.Add(1)
			c.sawSequence(event.Sequence(ack.Sequence))
			return event.Sequence(ack.Sequence), nil
		}
		if err := s.failed(ctx, err); err != nil {
			return 0, err
		}
	}
}
