package logio

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// The engine stores an atomic batch message by message. It stages the batch on disk
// first, then moves it into the Log under a lock that reads of single messages take, and
// that consumers and the Log's state do not. Where a write fails in between (a full
// disk), a part of the batch stays at the Log's end, for every kind of read, until the
// engine starts again and completes the batch from what it has staged.
//
// So no reader delivers every message that it meets, only settled ones. A position is
// settled when no batch at or before it is open, that is, without its last message, which
// has the commit header. Nothing is stored between the members of a batch, so only the
// end of the Log can be open, and:
//
//   - a message that belongs to no batch, or that commits one, settles its position;
//   - else the last message of the Log decides. If it is not a member of an open batch,
//     the Log is settled up to it. If it is, the Log is settled up to the position
//     before that batch, which the message's number within the batch gives.
//
// A reader's filter may leave out the message that commits. The rule does not need it.
//
// Safety: what a reader delivers lies at or before a position that was settled when the
// reader or another one of this client asked. A query ends at a settled position, so it
// holds a batch as a whole or not at all; what was acknowledged lies before it, since the
// engine acknowledges a batch after its last message. A crash leaves an open batch at the
// end of the Log, which the engine completes when it starts, before it takes anything
// else. A reader that has waited for an open batch reads again from before it, in case
// the engine has lost what it had staged and has given these positions to others.
// Should the engine store other messages behind a part of a batch, which it does when it
// cannot complete it, that part is in the Log for good, and is delivered. Hosts of ours keep
// what completes it, and refuse appends until it is completed.
//
// Liveness: a reader waits as long as the engine is stuck. Cost: one read of a single
// message a batch that a live reader meets, shared by the readers of a client; none for
// what lies behind.
type settled struct {
	upTo atomic.Uint64 // the highest position that is known to be settled
	turn chan struct{} // holds one token while a reader asks for the end of the Log

	// Guarded by turn.
	open time.Time // when a reader last met an open batch at the end
}

// settledAgain is how long an answer is shared by the readers of a client that wait for
// an open batch.
const settledAgain = 50 * time.Millisecond

// errOpenBatch is a message of a batch that the engine has not committed: it is partly
// stored. The engine completes it when it starts again.
var errOpenBatch = errors.New("the log ends with a batch that is stored in part, as after a full disk: the host completes it when there is space")

// errReadAgain makes a feed read again what it has waited for.
var errReadAgain = errors.New("a batch that was open is committed")

func newSettled() *settled { return &settled{turn: make(chan struct{}, 1)} }

func (s *settled) raise(seq event.Sequence) {
	for {
		old := s.upTo.Load()
		if uint64(seq) <= old || s.upTo.CompareAndSwap(old, uint64(seq)) {
			return
		}
	}
}

func (s *settled) has(seq event.Sequence) bool { return uint64(seq) <= s.upTo.Load() }

// awaitSettled returns nil when the message at seq may be delivered. Until then it waits,
// and afterwards returns errReadAgain.
func (l *Log) awaitSettled(ctx context.Context, h nats.Header, seq event.Sequence) error {
	if l.settled.has(seq) {
		return nil
	}
	if _, open := wire.OpenBatch(h); !open {
		l.settled.raise(seq)
		return nil
	}
	var backoff wait.Backoff
	var told telling
	for first := true; ; first = false {
		ok, err := l.settle(ctx, seq)
		switch {
		case err != nil:
			return err
		case ok && first:
			return nil
		case ok:
			return errReadAgain
		}
		told.wait(l, "a reader", errOpenBatch)
		if err := backoff.Wait(ctx); err != nil {
			return err
		}
	}
}

// settle reports whether seq is settled, as of a moment ago.
func (l *Log) settle(ctx context.Context, seq event.Sequence) (bool, error) {
	s := l.settled
	if s.has(seq) {
		return true, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if s.has(seq) || time.Since(s.open) < settledAgain {
		return s.has(seq), nil
	}
	err := l.once(ctx, func(ctx context.Context) error {
		_, open, err := l.askEnd(ctx)
		if open {
			s.open = time.Now()
		}
		return err
	})
	return s.has(seq), err
}

// boundary returns the last settled position, which is at least seq unless seq belongs to
// a batch that is open now. Everything that was acknowledged before is at or before it.
func (l *Log) boundary(ctx context.Context, seq event.Sequence) (at event.Sequence, err error) {
	var backoff wait.Backoff
	for {
		if l.settled.has(seq) {
			return event.Sequence(l.settled.upTo.Load()), nil
		}
		var last event.Sequence
		var open bool
		var damaged event.Sequence
		err := l.retry(ctx, func(ctx context.Context) (err error) {
			last, open, err = l.askEnd(ctx)
			if err == nil && !open && last != 0 && last < seq {
				damaged, err = l.damagedEnd(ctx, last)
			}
			return err
		})
		switch {
		case err != nil:
			return 0, err
		case last == 0: // it cannot be read, or does not exist: a reader that continues meets that
			return seq, nil
		case damaged != 0: // an engine that has lost its newest file may not report that to readers
			return 0, &event.DamageError{From: last + 1, To: damaged}
		case open:
			return event.Sequence(l.settled.upTo.Load()), nil
		case last >= seq:
			return last, nil
		}
		if err := backoff.Wait(ctx); err != nil { // a leader that is behind
			return 0, fmt.Errorf("the last message that the Log's leader has is %s, and %s is known: %w", last, seq, err)
		}
	}
}

// openAtEnd reports whether the Log ends with an open batch.
func (l *Log) openAtEnd(ctx context.Context) (open bool, err error) {
	err = l.retry(ctx, func(ctx context.Context) (err error) {
		_, open, err = l.askEnd(ctx)
		return err
	})
	return open, err
}

// askEnd reads the Log's last message and learns from it what is settled; 0 if no last
// message can be read. If the Log continues behind that message, its end is damaged: then
// a part of a batch is no open batch, and a reader that continues gets the damage.
func (l *Log) askEnd(ctx context.Context) (last event.Sequence, open bool, err error) {
	last, open, err = l.askLast(ctx)
	if err != nil || !open && last != 0 {
		return last, open, err
	}
	end, err := l.damagedEnd(ctx, last)
	if err != nil || end == 0 {
		return last, open, err
	}
	l.settled.raise(end)
	return last, false, nil
}

// askLast is askEnd for the last message that can be read. The engine answers between two
// batches, not within one.
func (l *Log) askLast(ctx context.Context) (last event.Sequence, open bool, err error) {
	last, h, err := wire.End(ctx, l.nc, l.js.Options().APIPrefix)
	if err != nil || last == 0 {
		return 0, false, err
	}
	if n, open := wire.OpenBatch(h); open {
		if uint64(last) > n {
			l.settled.raise(last - event.Sequence(n))
		}
		return last, true, nil
	}
	l.settled.raise(last)
	return last, false, nil
}

// damagedEnd returns the Log's last Sequence if the Log continues behind last, which is
// the last message that the server can read; else 0. The server is asked twice, since it
// may store more while it is asked for the Log's state.
func (l *Log) damagedEnd(ctx context.Context, last event.Sequence) (end event.Sequence, err error) {
	s, err := l.js.Stream(ctx, wire.LogName)
	if err != nil {
		return 0, err
	}
	info := s.CachedInfo()
	l.learn(ctx, s, info)
	end = event.Sequence(info.State.LastSeq)
	if end <= last {
		return 0, nil
	}
	if again, _, err := l.askLast(ctx); err != nil || again != last {
		return 0, err
	}
	return end, nil
}

// settledOnly returns errOpenBatch for a message of an open batch.
func (l *Log) settledOnly(ctx context.Context, m *jetstream.RawStreamMsg) error {
	seq := event.Sequence(m.Sequence)
	if _, open := wire.OpenBatch(m.Header); !open || l.settled.has(seq) {
		return nil
	}
	at, err := l.boundary(ctx, seq)
	if err == nil && at < seq {
		err = errOpenBatch
	}
	return err
}

// lastBefore reads the last message on one literal subject at or before a position; nil
// if there is none. It goes through all messages up to there.
func (l *Log) lastBefore(ctx context.Context, subject string, at event.Sequence) (*jetstream.RawStreamMsg, error) {
	if at == 0 {
		return nil, nil
	}
	var last event.Sequence
	for m, err := range l.Feed(ctx, FeedConfig{Subjects: []string{subject}, Until: at, HeadersOnly: true}) {
		if err != nil {
			return nil, err
		}
		last = m.Seq
	}
	if last == 0 {
		return nil, nil
	}
	return l.Get(ctx, last)
}
