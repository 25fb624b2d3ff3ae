package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// AppendBatch stores 1 to 999 events one after the other, all of them or none.
// What Append says of fields and errors holds here, for the batch as a whole; events
// without a Timestamp are given the same one. All are checked before any is sent.
//
// A batch has a cost of its own (some 7 ms of file system work in the engine, for
// 2 events as for 100) and holds up other appenders for that time: it is for
// events that belong together, and for many at once.
func (c *Client) AppendBatch(ctx context.Context, events []event.Event) ([]event.Recorded, error) {
	if len(events) == 0 || len(events) > event.MaxBatchLen {
		return nil, fmt.Errorf("client: %w", &event.InvalidError{
			Field: "batch", Value: fmt.Sprintf("%d events", len(events)), Rule: "must hold 1 to 999 events"})
	}
	if len(events) == 1 {
		r, err := c.Append(ctx, events[0])
		if err != nil {
			return nil, err
		}
		return []event.Recorded{r}, nil
	}
	prepared, err := c.prepareBatch(events)
	if err != nil {
		return nil, err
	}
	b, lost, err := c.protectBatch(ctx, prepared)
	if err != nil {
		return nil, err
	}
	err = c.publishBatch(ctx, b)
	var conflict *ConflictError
	if errors.As(err, &conflict) && lost[conflict.Guard] != nil {
		if _, why := lost[conflict.Guard](ctx, conflict); why != nil {
			err = fmt.Errorf("client: append a batch: %w", why)
		}
	}
	if err != nil {
		return nil, err
	}
	return prepared, nil
}

// protectBatch puts each event that needs one behind its guard.
func (c *Client) protectBatch(ctx context.Context, events []event.Recorded) (batch, map[string]lostFunc, error) {
	b := make(batch, 0, len(events))
	lost := map[string]lostFunc{}
	for i := range events {
		r := &events[i]
		subject, body, ok := wire.Protected(r.Event)
		if _, created := lost[subject]; ok && created {
			// The end of an intent that this batch creates: the batch is atomic, so
			// nothing comes between. Nothing else may move a guard twice at once.
			if !event.EndsIntent(r.Type) || b.ends(subject) {
				return nil, nil, fmt.Errorf("client: event %d of the batch: %w", i+1, &event.InvalidError{
					Field: "type", Value: r.Type, Rule: "moves " + subject + " a second time in one batch"})
			}
			r.Guard = subject
			b = append(b, entry{msg: wire.EncodeGuard(subject, body.Encode()), event: new(event.Recorded), isGuard: true, ends: true}, entry{event: r})
			continue
		}
		p, err := c.protect(ctx, r)
		if err == nil && p != nil && p.stored != 0 { // perhaps this whole batch is: the engine refuses it, and explain finds out
			id, at := r.ID, p.stored
			p = &protection{guard: subject, body: body.Encode(), lost: func(context.Context, *ConflictError) (event.Recorded, error) {
				return event.Recorded{}, fmt.Errorf("%w: %s is stored at %d", ErrDuplicateID, id, at)
			}}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("client: event %d of the batch: %w", i+1, err)
		}
		if p != nil {
			r.Guard = p.guard
			lost[p.guard] = p.lost
			g := guardEntry(p.guard, p.body, p.expected)
			g.ends = event.EndsIntent(r.Type)
			b = append(b, g)
		}
		b = append(b, entry{event: r})
	}
	return b, lost, nil
}

// entry is one message of a batch: an event, or a guard.
type entry struct {
	msg     *nats.Msg       // nil for an event that is composed when it is sent
	event   *event.Recorded // the caller's, who finds its Sequence there; of a guard only that
	isGuard bool
	ends    bool // a guard that ends an intent
}

// batch is what is stored together. Its first message decides where it is looked
// for after a lost answer.
type batch []entry

func guardEntry(subject string, body []byte, expected event.Sequence) entry {
	m := wire.EncodeGuard(subject, body)
	m.Header[wire.HeaderExpectedLastSubject] = []string{expected.String()}
	return entry{msg: m, event: new(event.Recorded), isGuard: true}
}

// ends reports whether the batch ends the intent of a guard already.
func (b batch) ends(subject string) bool {
	return slices.ContainsFunc(b, func(e entry) bool { return e.ends && e.msg.Subject == subject })
}

func (b batch) guarded() bool {
	return slices.ContainsFunc(b, func(e entry) bool { return e.isGuard })
}

// place gives every entry its Sequence, from that of entry i.
func (b batch) place(i int, seq event.Sequence) {
	for j := range b {
		b[j].event.Seq = seq - event.Sequence(i) + event.Sequence(j)
	}
}

// firstEvent is the index of the first entry that is not a guard.
func (b batch) firstEvent() int {
	for i := range b {
		if !b[i].isGuard {
			return i
		}
	}
	return 0
}

// publishBatch stores b atomically and places its entries. A *ConflictError is
// returned where a guard lost.
//
// What sending says of safety holds for a batch as well: the first event stands
// for all, since they are stored together or not at all, and the late condition
// is put on that event's own subject.
func (c *Client) publishBatch(ctx context.Context, b batch) error {
	if err := c.checkBatch(b); err != nil {
		return err
	}
	lead := b.firstEvent()
	if b[lead].msg == nil {
		b[lead].msg = wire.Encode(*b[lead].event) // it may come to bear a condition
	}
	name := "a batch of " + strconv.Itoa(len(b))
	if !b[lead].isGuard {
		name += " from " + b[lead].event.ID
	}
	s := newSending(c)
	for {
		if err := s.ended(ctx); err != nil {
			return fmt.Errorf("client: append %s: %w", name, err)
		}
		if !b[lead].isGuard {
			if err := s.turn(ctx, b[lead].msg); err != nil {
				return fmt.Errorf("client: append %s: %w", name, err)
			}
			if s.found != 0 {
				return c.sameBatchOrError(ctx, b, lead, s.found)
			}
		}
		ack, err := c.tryBatch(ctx, b)
		if err == nil {
			b.place(len(b)-1, event.Sequence(ack.Sequence))
			c.sawSequence(event.Sequence(ack.Sequence))
			return nil
		}
		verdict, _ := judge(err)
		if verdict == duplicate || verdict == wrongLast && (!s.late || b.guarded()) {
			stored, why := c.explain(ctx, b, verdict, s)
			switch {
			case errors.Is(why, errOpenBatch) || errors.Is(why, errEmpty):
				err = why // perhaps it is this batch, which is completed or taken back
			case why != nil && ctx.Err() != nil:
				s.unsure = true // something of ours, or of others, is there
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

// errInFlight is a refusal whose cause was gone when it was looked for.
var errInFlight = &jetstream.APIError{Code: 400, ErrorCode: wire.CodeWrongLastInFlight, Description: "another write was in flight"}

// explain finds out why the engine refused a batch for an id or a Sequence that
// it has seen: because an earlier try of this very batch is stored (true), because
// an id or a guard is somebody else's (an error), or neither any more. A late try
// has looked for the batch itself. It returns errOpenBatch while the Log ends with a batch
// that is stored in part, whose ids and guards the engine knows already.
func (c *Client) explain(ctx context.Context, b batch, why verdict, s *sending) (stored bool, err error) {
	if open, err := c.openAtEnd(ctx); open || err != nil {
		return false, cmp.Or(err, errOpenBatch)
	}
	lead := b.firstEvent()
	if !b[lead].isGuard && (why == duplicate || !s.late) {
		stored, err := c.findBatch(ctx, b, lead)
		if stored || err != nil {
			return stored, err
		}
	}
	if why == duplicate {
		return false, fmt.Errorf("client: append a batch: %w: one of its %d ids", ErrDuplicateID, len(b))
	}
	for i, e := range b {
		if !e.isGuard || e.msg.Header.Get(wire.HeaderExpectedLastSubject) == "" {
			continue
		}
		conflict, mine, err := c.conflict(ctx, e)
		if err != nil {
			return false, err
		}
		if mine != 0 {
			b.place(i, mine)
			if b[lead].isGuard {
				return true, nil
			}
			return true, c.sameBatchOrError(ctx, b, lead, b[lead].event.Seq) // or only this event is there, from another batch
		}
		if conflict != nil {
			return false, fmt.Errorf("client: %w", conflict)
		}
	}
	return false, nil
}

// findBatch looks for the batch's first event in the whole Log.
func (c *Client) findBatch(ctx context.Context, b batch, lead int) (bool, error) {
	m := b[lead].msg
	last, err := c.lastOn(ctx, m.Subject)
	if err != nil || last == nil {
		return false, err
	}
	at, err := c.findID(ctx, m.Subject, m.Header.Get(wire.HeaderID), 0, event.Sequence(last.Sequence))
	if err != nil || at == 0 {
		return false, err
	}
	return true, c.sameBatchOrError(ctx, b, lead, at)
}

// sameBatchOrError places b from its first event on, which is in the Log at that
// Sequence, and takes in the events as they were recorded: it is an error if one
// of them is not the same.
func (c *Client) sameBatchOrError(ctx context.Context, b batch, lead int, at event.Sequence) error {
	b.place(lead, at)
	for i := lead; i < len(b); i++ {
		if b[i].isGuard {
			continue
		}
		was, err := c.sameOrError(ctx, *b[i].event)
		if errors.Is(err, errEmpty) {
			return c.emptyInBatch(ctx, *b[i].event, at)
		}
		if err != nil {
			return err
		}
		*b[i].event = was
	}
	return nil
}

// emptyInBatch is the error of a batch whose first event is stored at that Sequence, and
// that has nothing where r would be: at the end of the Log another batch begins like it.
// Elsewhere something is missing.
func (c *Client) emptyInBatch(ctx context.Context, r event.Recorded, first event.Sequence) error {
	end, err := c.position(ctx)
	if err == nil && end >= first && end < r.Seq {
		return fmt.Errorf("client: append %s: %w (seq %d, and the log ends at %d)", r.ID, ErrDuplicateID, first, end)
	}
	return fmt.Errorf("client: append %s: %w: %w", r.ID, ErrUnknownOutcome, cmp.Or(err, fmt.Errorf("seq %d: %w", r.Seq, errEmpty)))
}

// conflict compares a guard of ours with the last one stored. mine is where ours is
// stored, if it is.
//
// That the engine refused ours does not say that it is not stored. In a cluster, at the
// moment when a leader was no longer cut off, a move was refused at its first try and
// stored all the same; and another had moved the guard on by the time it was looked at.
// But a guard moves from one Sequence once, so ours is stored if, and only if, it is among
// the moves since the one expected.
func (c *Client) conflict(ctx context.Context, e entry) (_ *ConflictError, mine event.Sequence, _ error) {
	subject := e.msg.Subject
	expected, err := event.ParseSequence(e.msg.Header.Get(wire.HeaderExpectedLastSubject))
	if err != nil {
		return nil, 0, fmt.Errorf("client: %w", err)
	}
	last, err := c.lastOn(ctx, subject)
	if c.clustered && err == nil && (last == nil || event.Sequence(last.Sequence) < expected) {
		// Whoever answers may be behind: what comes before a barrier is seen by all.
		if _, err = c.Barrier(ctx); err == nil {
			last, err = c.lastOn(ctx, subject)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("client: %w", err)
	}
	if last == nil {
		if expected == 0 {
			return nil, 0, nil
		}
		return &ConflictError{Guard: subject, Expected: expected}, 0, nil
	}
	seq := event.Sequence(last.Sequence)
	if seq == expected {
		return nil, 0, nil
	}
	if seq > expected && len(last.Data) > 0 && string(last.Data) == string(e.msg.Data) {
		return nil, seq, nil // bodies name the event's id, which is ours alone
	}
	if seq > expected && len(e.msg.Data) > 0 {
		for m, err := range c.Feed(ctx, FeedConfig{Subjects: []string{subject}, After: expected, Until: seq}) {
			if err != nil {
				return nil, 0, fmt.Errorf("client: %w", err)
			}
			if string(m.Data) == string(e.msg.Data) {
				return nil, m.Seq, nil
			}
		}
	}
	conflict := &ConflictError{Guard: subject, Expected: expected, Seq: seq, Body: last.Data}
	conflict.Winner, err = c.behind(ctx, seq, last.Data)
	return conflict, 0, err
}

// behind reads the event that was written with the guard at seq.
func (c *Client) behind(ctx context.Context, seq event.Sequence, body []byte) (*event.Recorded, error) {
	var g wire.GuardBody
	if json.Unmarshal(body, &g) != nil || g.Event == "" {
		return nil, nil //nolint:nilerr // a guard that names no event stands alone
	}
	m, err := c.message(ctx, seq+1)
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
