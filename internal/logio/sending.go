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

// sending is the state of one append over its tries.
//
// Safety: within the duplicate window the engine itself stores an id once. When
// half of the window has passed since the first try, an earlier try may be in the
// Log and forgotten by the engine. So from then on each try first looks for the
// id after the Sequence known before the first try, and then publishes on the
// condition that the last message on the event's own, literal subject is still
// the one seen before the look. A try of ours that lands in between, however
// late, makes that condition false, and the next look finds it.
//
// Liveness: a condition fails only when somebody's message was stored on the
// subject meanwhile; each failure is progress of another writer.
type sending struct {
	log      *Log
	first    time.Time      // wall clock of the first try: a machine that slept counts
	known    event.Sequence // before the first try; then how far was looked
	lastOn   event.Sequence // the last message on the subject, as far as was looked
	late     bool           // the engine's memory is no longer relied upon
	unsure   bool           // a try may have been stored, or may be yet
	storedAt event.Sequence // where an earlier try was found
	last     error          // of the last try
	told     telling        // that it waits
	wait     backoff
}

func newSending(l *Log) *sending {
	return &sending{log: l, first: wallNow(), known: event.Sequence(l.known.Load())}
}

// wallNow drops the monotonic reading, which stands still while a machine sleeps.
func wallNow() time.Time { return time.Now().Round(0) }

// ended says why there is to be no further try.
func (s *sending) ended(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return s.giveUp(ctx.Err())
	case s.log.nc.IsClosed():
		return s.giveUp(s.log.closed())
	}
	if !s.log.nc.IsConnected() {
		if why := s.log.gone(); why != nil {
			return s.giveUp(why)
		}
	}
	return nil
}

// turn prepares the next try of m: it sets found, or m's condition.
func (s *sending) turn(ctx context.Context, m *nats.Msg) error {
	if err := s.ended(ctx); err != nil {
		return err
	}
	if !s.unsure || (!s.late && wallNow().Sub(s.first) < s.log.window/2) {
		return nil
	}
	if err := s.look(ctx, m.Subject, m.Header.Get(wire.HeaderID)); err != nil {
		return s.giveUp(err)
	}
	m.Header[wire.HeaderExpectedLastSubject] = []string{s.lastOn.String()}
	return nil
}

// look searches for an id up to the last message on its subject, and remembers how
// far it came. It ends with reads of single messages: others may write to the
// subject without a pause, and one that comes after the search and before the
// publish makes the publish fail. A consumer takes too long for that.
func (s *sending) look(ctx context.Context, subject, id string) error {
	much := !s.late
	s.late = true
	for ; s.storedAt == 0; much = true {
		if much {
			if err := s.lookThrough(ctx, subject, id); err != nil {
				return err
			}
		}
		for i := 0; i < lookSingles && s.storedAt == 0; i++ {
			m, err := s.log.next(ctx, subject, s.known+1)
			if m == nil || err != nil {
				return err
			}
			s.known = event.Sequence(m.Sequence)
			s.lastOn = s.known
			if m.Header.Get(wire.HeaderID) == id {
				s.storedAt = s.known
			}
		}
	}
	return nil
}

// lookThrough searches for an id with a consumer, which takes a moment to begin and
// then is fast.
func (s *sending) lookThrough(ctx context.Context, subject, id string) error {
	last, err := s.log.Last(ctx, subject)
	if last == nil || err != nil {
		return err
	}
	s.lastOn = event.Sequence(last.Sequence)
	if s.lastOn <= s.known {
		return nil
	}
	s.storedAt, err = s.log.searchID(ctx, subject, id, s.known, s.lastOn)
	if err == nil {
		s.known = s.lastOn
	}
	return err
}

// lookSingles is how many messages look reads one by one before it takes a consumer.
const lookSingles = 16

// failed takes in a failed try. It returns nil when there is to be another.
func (s *sending) failed(ctx context.Context, err error) error {
	before := s.last
	err = lostConnection(ctx, err)
	s.last = err
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		// Never left this process, or nobody was there to take it.
	} else if s.log.nc.IsClosed() {
		s.unsure = true
		return s.giveUp(s.log.closed())
	} else {
		v, err := judge(err)
		switch {
		case v == unsure, v == notStored && s.log.clustered: // a refusal is no proof there (see conflict)
			s.unsure = true
		case v == refused && !s.unsure:
			return err
		case v == refused:
			s.late = true // an earlier try may have been stored: look for it
		case v == wrongLast && !s.late:
			return err // the caller's own condition
		case v == wrongLast && ctx.Err() == nil:
			return nil // look again at once: who waits meets still more that is new
		}
		s.last = err
	}
	if ctx.Err() != nil || !s.log.pause(ctx, &s.wait) {
		if before != nil && errors.Is(err, ctx.Err()) {
			s.last = before // what was heard says more than that time is up
		}
		return s.giveUp(ctx.Err())
	}
	s.log.cfg.Logger.Debug("append: trying again", "err", s.last)
	s.told.wait(s.log, "an append", s.last)
	return nil
}

// giveUp ends an append that did not get its answer.
func (s *sending) giveUp(err error) error {
	err = s.log.inVain(err, s.last)
	if s.unsure {
		return fmt.Errorf("%w: %w", event.ErrUnknownOutcome, err)
	}
	return fmt.Errorf("not stored: %w", err)
}

// searchID looks for an id on one literal subject in (after, until]; 0 if absent.
func (l *Log) searchID(ctx context.Context, subject, id string, after, until event.Sequence) (event.Sequence, error) {
	for m, err := range l.Feed(ctx, FeedConfig{Subjects: []string{subject}, After: after, Until: until, HeadersOnly: true}) {
		if err != nil {
			return 0, err
		}
		if m.Header.Get(wire.HeaderID) == id {
			return m.Seq, nil
		}
	}
	return 0, nil
}
