package logio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// sending is the state of one append over its attempts.
//
// Safety: within the duplicate window the engine itself stores an id once. When half of
// the window has passed since the first attempt, an earlier attempt may be in the Log and
// forgotten by the engine. So from then on each attempt first searches for the id after
// the Sequence known before the first attempt. It then publishes on the condition that
// the last message on the event's own, literal subject is still the one seen before the
// search. If an earlier attempt is stored in between, however late, that condition is
// false, and the next search finds it.
//
// Liveness: a condition fails only when another message was stored on the subject
// meanwhile; each failure is progress of another writer.
type sending struct {
	log      *Log
	first    time.Time      // wall clock of the first attempt: the time that a machine sleeps counts
	known    event.Sequence // before the first attempt; later the end of the last search
	lastOn   event.Sequence // the last message on the subject, as of the last search
	late     bool           // the append no longer relies on the engine's memory
	unsure   bool           // an attempt may have been stored, or may be stored later
	storedAt event.Sequence // the position of an earlier attempt that was found
	last     error          // of the last attempt
	told     telling        // whether the wait was reported
	backoff  wait.Backoff
}

func newSending(l *Log) *sending {
	return &sending{log: l, first: wallNow(), known: event.Sequence(l.known.Load())}
}

// wallNow drops the monotonic reading, which stands still while a machine sleeps.
func wallNow() time.Time { return time.Now().Round(0) }

// ended returns the reason why there is no further attempt.
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

// turn prepares the next attempt of m: it sets found, or m's condition.
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

// look searches for an id up to the last message on its subject, and remembers how far it
// read. It ends with reads of single messages: others may write to the subject without a
// pause, and a message between the search and the publish makes the publish fail. A
// consumer takes too long for that.
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

// lookThrough searches for an id with a consumer, which takes a moment to begin and then
// is fast.
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

// lookSingles is how many messages look reads one by one before it uses a consumer.
const lookSingles = 16

// failed handles a failed attempt. It returns nil if there is to be another.
func (s *sending) failed(ctx context.Context, err error) error {
	before := s.last
	err = lostConnection(ctx, err)
	s.last = err
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		// It never left this process, or no server was there to receive it.
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
			s.late = true // an earlier attempt may have been stored: search for it
		case v == wrongLast && !s.late:
			return err // the caller's own condition
		case v == wrongLast && ctx.Err() == nil:
			return nil // search again at once: a wait would only add new messages to search
		}
		s.last = err
	}
	if ctx.Err() != nil || !s.log.pause(ctx, &s.backoff) {
		if before != nil && errors.Is(err, ctx.Err()) {
			s.last = before // the earlier error says more than a timeout
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

// searchID searches for an id on one literal subject in (after, until]; 0 if absent.
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
