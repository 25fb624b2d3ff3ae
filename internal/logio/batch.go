package logio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"durablestream/event"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Entry is one message of a batch: an event, or a guard.
type Entry struct {
	msg     *nats.Msg       // nil for an event that is encoded when it is sent
	event   *event.Recorded // the caller's, which gets its Sequence; for a guard only its Sequence is used
	isGuard bool
}

// Batch is a list of messages that are stored together. After a lost answer, the client
// searches for the first event.
type Batch []Entry

// OfEvent returns the entry of an event; PublishBatch sets its Sequence in r.
func OfEvent(r *event.Recorded) Entry { return Entry{event: r} }

// OfGuard returns the entry of a guard with its expected last Sequence.
func OfGuard(subject string, body []byte, expected event.Sequence) Entry {
	m := wire.EncodeGuard(subject, body)
	m.Header[wire.HeaderExpectedLastSubject] = []string{expected.String()}
	return Entry{msg: m, event: new(event.Recorded), isGuard: true}
}

// OfGuardAgain returns the entry of a guard that the batch has moved before: a batch is
// atomic, so nothing is stored in between.
func OfGuardAgain(subject string, body []byte) Entry {
	return Entry{msg: wire.EncodeGuard(subject, body), event: new(event.Recorded), isGuard: true}
}

// Guard returns the subject of a guard; "" for an event.
func (e Entry) Guard() string {
	if !e.isGuard {
		return ""
	}
	return e.msg.Subject
}

// Seq returns the Sequence of the entry, once it is stored.
func (e Entry) Seq() event.Sequence { return e.event.Seq }

func (b Batch) guarded() bool {
	return slices.ContainsFunc(b, func(e Entry) bool { return e.isGuard })
}

// place sets the Sequence of every entry, from that of entry i.
func (b Batch) place(i int, seq event.Sequence) {
	for j := range b {
		b[j].event.Seq = seq - event.Sequence(i) + event.Sequence(j)
	}
}

// firstEvent returns the index of the first entry that is not a guard.
func (b Batch) firstEvent() int {
	for i := range b {
		if !b[i].isGuard {
			return i
		}
	}
	return 0
}

// PublishBatch stores b atomically and sets the Sequences of its entries. It returns a
// *ConflictError if a guard lost.
//
// The safety argument of sending holds for a batch too: the first event stands for all,
// since they are stored together or not at all, and a late attempt puts its condition on
// that event's own subject.
func (l *Log) PublishBatch(ctx context.Context, b Batch) error {
	if err := l.checkBatch(b); err != nil {
		return err
	}
	lead := b.firstEvent()
	if b[lead].msg == nil {
		b[lead].msg = wire.Encode(*b[lead].event) // it may get a condition
	}
	name := "a batch of " + strconv.Itoa(len(b))
	if !b[lead].isGuard {
		name += " from " + b[lead].event.ID
	}
	s := newSending(l)
	for {
		if err := s.ended(ctx); err != nil {
			return fmt.Errorf("client: append %s: %w", name, err)
		}
		if !b[lead].isGuard {
			if err := s.turn(ctx, b[lead].msg); err != nil {
				return fmt.Errorf("client: append %s: %w", name, err)
			}
			if s.storedAt != 0 {
				return l.sameBatchOrError(ctx, b, lead, s.storedAt)
			}
		}
		ack, err := l.tryBatch(ctx, b)
		if err == nil {
			b.place(len(b)-1, event.Sequence(ack.Sequence))
			l.sawSequence(event.Sequence(ack.Sequence))
			return nil
		}
		verdict, _ := judge(err)
		if verdict == duplicate || verdict == wrongLast && (!s.late || b.guarded()) {
			stored, why := l.explain(ctx, b, verdict, s)
			switch {
			case errors.Is(why, errOpenBatch) || errors.Is(why, errEmpty):
				err = why // perhaps it is this batch, which the engine completes or removes
			case why != nil && ctx.Err() != nil:
				s.unsure = true // something of ours, or of others, is stored
				return fmt.Errorf("client: append %s: %w", name, s.giveUp(why))
			case stored || why != nil:
				return why
			case !s.late:
				err = errInFlight
			}
		}
		if err := s.failed(ctx, err); err != nil {
			return fmt.Errorf("client: append %s: %w", name, err)
		}
	}
}

// errInFlight is a refusal whose cause was gone when the client read it.
var errInFlight = &jetstream.APIError{Code: 400, ErrorCode: wire.CodeWrongLastInFlight, Description: "another write was in flight"}

// explain finds out why the engine refused a batch for an id or a Sequence that it has
// seen. An earlier attempt of this very batch is stored (true), or an id or a guard
// belongs to another append (an error), or neither holds any more. A late attempt has
// searched for the batch itself. explain returns errOpenBatch while the Log ends with a
// partly stored batch, whose ids and guards the engine knows already.
func (l *Log) explain(ctx context.Context, b Batch, why verdict, s *sending) (stored bool, err error) {
	if open, err := l.openAtEnd(ctx); open || err != nil {
		return false, cmp.Or(err, errOpenBatch)
	}
	lead := b.firstEvent()
	if !b[lead].isGuard && (why == duplicate || !s.late) {
		stored, err := l.searchBatch(ctx, b, lead)
		if stored || err != nil {
			return stored, err
		}
	}
	if why == duplicate {
		return false, fmt.Errorf("client: append a batch: %w: one of its %d ids", event.ErrDuplicateID, len(b))
	}
	for i, e := range b {
		if !e.isGuard || e.msg.Header.Get(wire.HeaderExpectedLastSubject) == "" {
			continue
		}
		conflict, mine, err := l.conflict(ctx, e)
		if err != nil {
			return false, err
		}
		if mine != 0 {
			b.place(i, mine)
			if b[lead].isGuard {
				return true, nil
			}
			return true, l.sameBatchOrError(ctx, b, lead, b[lead].event.Seq) // or only this event is stored, from another batch
		}
		if conflict != nil {
			return false, fmt.Errorf("client: %w", conflict)
		}
	}
	return false, nil
}

// searchBatch searches the whole Log for the batch's first event.
func (l *Log) searchBatch(ctx context.Context, b Batch, lead int) (bool, error) {
	m := b[lead].msg
	last, err := l.Last(ctx, m.Subject)
	if err != nil || last == nil {
		return false, err
	}
	at, err := l.searchID(ctx, m.Subject, m.Header.Get(wire.HeaderID), 0, event.Sequence(last.Sequence))
	if err != nil || at == 0 {
		return false, err
	}
	return true, l.sameBatchOrError(ctx, b, lead, at)
}

// sameBatchOrError takes over the recorded events of b, whose first event is in the Log
// at that Sequence. It returns an error if one of the others is not the same.
func (l *Log) sameBatchOrError(ctx context.Context, b Batch, lead int, at event.Sequence) error {
	b.place(lead, at)
	for i := lead; i < len(b); i++ {
		if b[i].isGuard {
			continue
		}
		was, err := l.Same(ctx, *b[i].event)
		if errors.Is(err, errEmpty) {
			return l.emptyInBatch(ctx, *b[i].event, at)
		}
		if err != nil {
			return err
		}
		*b[i].event = was
	}
	return nil
}

// emptyInBatch is the error of a batch whose first event is stored at that Sequence, with
// no message in the place of r. At the end of the Log, another batch begins with the same
// event. Elsewhere a message is missing.
func (l *Log) emptyInBatch(ctx context.Context, r event.Recorded, first event.Sequence) error {
	end, err := l.Position(ctx)
	if err == nil && end >= first && end < r.Seq {
		return fmt.Errorf("client: append %s: %w (seq %d, and the log ends at %d)", r.ID, event.ErrDuplicateID, first, end)
	}
	return fmt.Errorf("client: append %s: %w: %w", r.ID, event.ErrUnknownOutcome, cmp.Or(err, fmt.Errorf("seq %d: %w", r.Seq, errEmpty)))
}

// MovedFrom returns the conflict of a guard that is not at the expected Sequence; nil if
// it is.
func (l *Log) MovedFrom(ctx context.Context, guard string, expected event.Sequence) (*event.ConflictError, error) {
	lost, _, err := l.conflict(ctx, OfGuard(guard, nil, expected))
	return lost, err
}

// conflict compares our guard with the last stored one. mine is the Sequence of ours, if
// it is stored.
//
// A refusal by the engine does not prove that ours is not stored. In a cluster, at the
// moment when a leader was no longer cut off, the first attempt of a move was refused and
// stored all the same, and another move followed before the client read the guard. But a
// guard moves from one Sequence once, so ours is stored if, and only if, it is among the
// moves since the expected one.
func (l *Log) conflict(ctx context.Context, e Entry) (_ *event.ConflictError, mine event.Sequence, _ error) {
	subject := e.msg.Subject
	expected, err := event.ParseSequence(e.msg.Header.Get(wire.HeaderExpectedLastSubject))
	if err != nil {
		return nil, 0, fmt.Errorf("client: %w", err)
	}
	last, err := l.Last(ctx, subject)
	if l.clustered && err == nil && (last == nil || event.Sequence(last.Sequence) < expected) {
		// The server that answers may be behind: all servers see what comes before a
		// barrier.
		if _, err = l.Barrier(ctx); err == nil {
			last, err = l.Last(ctx, subject)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("client: %w", err)
	}
	if last == nil {
		if expected == 0 {
			return nil, 0, nil
		}
		return &event.ConflictError{Guard: subject, Expected: expected}, 0, nil
	}
	seq := event.Sequence(last.Sequence)
	if seq == expected {
		return nil, 0, nil
	}
	if seq > expected && len(last.Data) > 0 && string(last.Data) == string(e.msg.Data) {
		return nil, seq, nil // bodies name the event's id, and no other event has ours
	}
	if seq > expected && len(e.msg.Data) > 0 {
		for m, err := range l.Feed(ctx, FeedConfig{Subjects: []string{subject}, After: expected, Until: seq}) {
			if err != nil {
				return nil, 0, fmt.Errorf("client: %w", err)
			}
			if string(m.Data) == string(e.msg.Data) {
				return nil, m.Seq, nil
			}
		}
	}
	conflict := &event.ConflictError{Guard: subject, Expected: expected, Seq: seq, Body: last.Data}
	conflict.Winner, err = l.Behind(ctx, seq, last.Data)
	return conflict, 0, err
}

// Behind reads the event that was written with the guard at seq.
func (l *Log) Behind(ctx context.Context, seq event.Sequence, body []byte) (*event.Recorded, error) {
	var g wire.GuardBody
	if json.Unmarshal(body, &g) != nil || g.Event == "" {
		return nil, nil //nolint:nilerr // a guard that names no event stands alone
	}
	m, err := l.Get(ctx, seq+1)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	r, err := wire.Decode(m.Subject, m.Data, seq+1)
	if err != nil || r.ID != g.Event {
		return nil, nil //nolint:nilerr // what follows is not the guard's event
	}
	return &r, nil
}
