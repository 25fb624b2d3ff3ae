package logio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// HeaderRoom is kept free in every message for the headers that a batch, a late attempt
// or a restore adds, so that an event that was accepted once always fits.
const HeaderRoom = 256

// MaxPayload is the most bytes, headers included, that the server accepts in one message
// now.
func (l *Log) MaxPayload() int { return int(l.nc.MaxPayload()) }

// checkSize refuses a message that the server would not accept, also because of the role
// of this key.
func (l *Log) checkSize(msgs ...*nats.Msg) error {
	for _, m := range msgs {
		if err := l.cfg.MayStore(m.Subject); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		if size, limit := wire.Size(m)+HeaderRoom, int(l.nc.MaxPayload()); size > limit {
			return fmt.Errorf("client: %w", &event.TooLargeError{Size: size, Limit: limit})
		}
	}
	return nil
}

// Publish stores one complete and checked event, and returns it as recorded.
func (l *Log) Publish(ctx context.Context, r event.Recorded) (event.Recorded, error) {
	m := wire.Encode(r)
	if err := l.checkSize(m); err != nil {
		return event.Recorded{}, err
	}
	l.group.waiting.Add(1)
	defer l.group.waiting.Add(-1)
	s := newSending(l)
	for try := l.tryGrouped; ; try = l.tryPublish {
		if err := s.turn(ctx, m); err != nil {
			return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.ID, err)
		}
		if s.storedAt != 0 { // an earlier attempt of ours was stored after all
			r.Seq = s.storedAt
			return l.Same(ctx, r)
		}
		ack, err := try(ctx, m)
		if errors.Is(err, errAlone) {
			ack, err = l.tryPublish(ctx, m)
		}
		if err == nil {
			r.Seq = event.Sequence(ack.Sequence)
			l.sawSequence(r.Seq)
			if !ack.Duplicate {
				return r, nil
			}
			was, why := l.Same(ctx, r)
			if !errors.Is(why, errEmpty) {
				return was, why
			}
			err = why // it may be stored, or may be stored later
		}
		if err := s.failed(ctx, err); err != nil {
			return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.ID, err)
		}
	}
}

// tryPublish publishes once.
func (l *Log) tryPublish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := l.attempt(ctx)
	defer cancel()
	return l.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
}

// attempt bounds one attempt: by time, and by the life of the connection, since an answer
// that was due on a lost connection never comes.
func (l *Log) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	try, cancel := context.WithTimeout(ctx, attemptTimeout)
	stop := context.AfterFunc(l.conn.current(), cancel)
	return try, func() {
		if ctx.Err() == nil && errors.Is(try.Err(), context.DeadlineExceeded) {
			l.elsewhere()
		}
		stop()
		cancel()
	}
}

// elsewhere connects to another server, if there are several, after one has not answered
// for long. That server may be cut off from the others, which continue without it, while
// its own connection to this client still works.
func (l *Log) elsewhere() {
	now := time.Now().UnixNano()
	last := l.moved.Load()
	if len(l.nc.Servers()) < 2 || now-last < int64(attemptTimeout) || !l.moved.CompareAndSwap(last, now) {
		return
	}
	l.cfg.Logger.Debug("no answer: going to another server", "server", l.nc.ConnectedUrl())
	_ = l.nc.ForceReconnect() // an error means that the owner has closed the connection
}

// errEmpty is an empty position that should hold a stored append. The outcome of the
// append is unknown.
var errEmpty = errors.New("the position is empty")

// Same returns the result of an append whose ID is in the Log at r.Seq, by an earlier
// attempt or another append: the event as it was recorded, if it is the same one. It
// returns errEmpty if the position is empty.
func (l *Log) Same(ctx context.Context, r event.Recorded) (event.Recorded, error) {
	if r.Seq == 0 {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: the engine has its id at seq 0: %w", r.ID, event.ErrUnknownOutcome, errEmpty)
	}
	m, err := l.Get(ctx, r.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) && l.clustered {
		// Or the leader is behind: what comes before a barrier is not empty.
		var end event.Sequence
		if end, err = l.Barrier(ctx); err == nil {
			l.sawSequence(end)
			m, err = l.Get(ctx, r.Seq)
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: seq %d has its id: %w", r.ID, event.ErrUnknownOutcome, r.Seq, errEmpty)
	}
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: seq %d has this id and cannot be read: %w", r.ID, event.ErrUnknownOutcome, r.Seq, err)
	}
	was, err := wire.Decode(m.Subject, m.Data, r.Seq)
	if err != nil || was.ID != r.ID || was.Type != r.Type || was.StreamID != r.StreamID || string(was.Payload) != string(r.Payload) {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w (seq %d, %s)", r.ID, event.ErrDuplicateID, r.Seq, m.Subject)
	}
	return was, nil
}
