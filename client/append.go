package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Append stores one event and returns it as recorded, once it is durable. Fields
// that are left out are filled in: ID, Timestamp, CorrelationID, Payload, and
// StreamID where Config has one. e itself is not changed.
//
// It tries again, with the same ID, until the context ends. Its errors:
// *event.InvalidError, *TooLargeError, ErrDiskFull, ErrDiskReadOnly, ErrDuplicateID and
// *RefusedError mean that nothing was stored; ErrUnknownOutcome that the context
// ended first. Appending an event again under its ID is safe: within the Log's
// duplicate window the answer is the event as it was first recorded.
//
// Requests and decisions of checkpoints, and the creation and end of intents, are
// carried out by the rules of the calls that are made for them (RequestCheckpoint,
// Approve, CreateIntent, …), with their errors: there is no way round a guard.
func (c *Client) Append(ctx context.Context, e event.Event) (event.Recorded, error) {
	r, err := c.prepare(e)
	if err != nil {
		return event.Recorded{}, err
	}
	p, err := c.protect(ctx, &r)
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.Type, err)
	}
	if p != nil {
		return c.appendProtected(ctx, r, p)
	}
	return c.publishOne(ctx, r)
}

// prepare fills in and checks an event.
func (c *Client) prepare(e event.Event) (event.Recorded, error) {
	if e.ID == "" {
		e.ID = event.NewID()
	}
	if e.Timestamp == 0 {
		e.Timestamp = event.Now()
	}
	if e.CorrelationID == "" {
		e.CorrelationID = c.cfg.CorrelationID
	}
	if e.StreamID == "" {
		e.StreamID = c.cfg.StreamID
	}
	if len(e.Payload) == 0 {
		e.Payload = []byte("{}")
	}
	err := e.Validate()
	if err == nil {
		err = wire.CheckProtected(e)
	}
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: %w", err)
	}
	e.Payload = event.Compact(e.Payload) // which copies: what was given stays the caller's
	if e.Metadata != nil {
		e.Metadata = event.Compact(e.Metadata)
	}
	e.Metadata = event.WithWorktree(e.Metadata, c.cfg.Worktree)
	e.Extra = slices.Clone(e.Extra)
	for i := range e.Extra {
		e.Extra[i].Value = event.Compact(e.Extra[i].Value)
	}
	return event.Recorded{Event: e}, nil
}

// headerRoom is kept free in every message for what a batch, a late try or a
// restore adds to its headers, so that an event that is taken once always fits.
const headerRoom = 256

// MaxPayload is the most bytes that the server takes in one message now, headers
// included.
func (c *Client) MaxPayload() int { return int(c.nc.MaxPayload()) }

// checkSize refuses what the server would not take: also what the role of this key
// does not allow.
func (c *Client) checkSize(msgs ...*nats.Msg) error {
	for _, m := range msgs {
		if err := c.mayStore(m.Subject); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		if size, limit := wire.Size(m)+headerRoom, int(c.nc.MaxPayload()); size > limit {
			return fmt.Errorf("client: %w", &TooLargeError{size, limit})
		}
	}
	return nil
}

func (c *Client) publishOne(ctx context.Context, r event.Recorded) (event.Recorded, error) {
	m := wire.Encode(r)
	if err := c.checkSize(m); err != nil {
		return event.Recorded{}, err
	}
	c.joins.waiting.Add(1)
	defer c.joins.waiting.Add(-1)
	s := newSending(c)
	for try := c.tryJoined; ; try = c.tryPublish {
		if err := s.turn(ctx, m); err != nil {
			return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.ID, err)
		}
		if s.found != 0 { // an earlier try of ours was stored after all
			r.Seq = s.found
			return c.sameOrError(ctx, r)
		}
		ack, err := try(ctx, m)
		if errors.Is(err, errAlone) {
			ack, err = c.tryPublish(ctx, m)
		}
		if err == nil {
			r.Seq = event.Sequence(ack.Sequence)
			c.sawSequence(r.Seq)
			if !ack.Duplicate {
				return r, nil
			}
			was, why := c.sameOrError(ctx, r)
			if !errors.Is(why, errEmpty) {
				return was, why
			}
			err = why // it may be stored, or may be yet
		}
		if err := s.failed(ctx, err); err != nil {
			return event.Recorded{}, fmt.Errorf("client: append %s: %w", r.ID, err)
		}
	}
}

// tryPublish publishes once.
func (c *Client) tryPublish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := c.attempt(ctx)
	defer cancel()
	return c.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
}

// attempt bounds one try: by time, and by the life of the connection, since an
// answer that was due on a lost connection never comes.
func (c *Client) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	try, cancel := context.WithTimeout(ctx, attemptTimeout)
	stop := context.AfterFunc(c.conn.current(), cancel)
	return try, func() {
		if ctx.Err() == nil && errors.Is(try.Err(), context.DeadlineExceeded) {
			c.elsewhere()
		}
		stop()
		cancel()
	}
}

// elsewhere goes to another server, where there are several, after one has not
// answered for long: it may be cut off from the others, which go on without it. Its
// own connection to this client is none the worse for that.
func (c *Client) elsewhere() {
	now := time.Now().UnixNano()
	last := c.moved.Load()
	if len(c.nc.Servers()) < 2 || now-last < int64(attemptTimeout) || !c.moved.CompareAndSwap(last, now) {
		return
	}
	c.cfg.Logger.Debug("no answer: going to another server", "server", c.nc.ConnectedUrl())
	_ = c.nc.ForceReconnect() // an error is a connection that its owner has closed
}

// errEmpty is a position that is to hold what an append has stored, and holds nothing. What
// became of the append is unknown.
var errEmpty = errors.New("the position is empty")

// sameOrError answers an append whose ID is in the Log at r.Seq, by an earlier try
// or by somebody else: with the event as it was recorded, if it is the same one. It returns
// errEmpty where nothing is there.
func (c *Client) sameOrError(ctx context.Context, r event.Recorded) (event.Recorded, error) {
	if r.Seq == 0 {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: the engine has its id at seq 0: %w", r.ID, ErrUnknownOutcome, errEmpty)
	}
	m, err := c.message(ctx, r.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) && c.clustered {
		// Or by a leader that is behind: what comes before a barrier is not empty.
		var end event.Sequence
		if end, err = c.Barrier(ctx); err == nil {
			c.sawSequence(end)
			m, err = c.message(ctx, r.Seq)
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: seq %d has its id: %w", r.ID, ErrUnknownOutcome, r.Seq, errEmpty)
	}
	if err != nil {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w: seq %d has this id and cannot be read: %w", r.ID, ErrUnknownOutcome, r.Seq, err)
	}
	was, err := wire.Decode(m.Subject, m.Data, r.Seq)
	if err != nil || was.ID != r.ID || was.Type != r.Type || was.StreamID != r.StreamID || string(was.Payload) != string(r.Payload) {
		return event.Recorded{}, fmt.Errorf("client: append %s: %w (seq %d, %s)", r.ID, ErrDuplicateID, r.Seq, m.Subject)
	}
	return was, nil
}

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
	c      *Client
	first  time.Time      // wall clock of the first try: a machine that slept counts
	known  event.Sequence // before the first try; then how far was looked
	lastOn event.Sequence // the last message on the subject, as far as was looked
	late   bool           // the engine's memory is no longer relied upon
	unsure bool           // a try may have been stored, or may be yet
	found  event.Sequence // where an earlier try was found
	last   error          // of the last try
	told   telling        // that it waits
	wait   backoff
}

func newSending(c *Client) *sending {
	return &sending{c: c, first: wallNow(), known: event.Sequence(c.known.Load())}
}

// wallNow drops the monotonic reading, which stands still while a machine sleeps.
func wallNow() time.Time { return time.Now().Round(0) }

// ended says why there is to be no further try.
func (s *sending) ended(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return s.giveUp(ctx.Err())
	case s.c.nc.IsClosed():
		return s.giveUp(s.c.closed())
	}
	if !s.c.nc.IsConnected() {
		if why := s.c.gone(); why != nil {
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
	if !s.unsure || (!s.late && wallNow().Sub(s.first) < s.c.window/2) {
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
	for ; s.found == 0; much = true {
		if much {
			if err := s.lookThrough(ctx, subject, id); err != nil {
				return err
			}
		}
		for i := 0; i < lookSingles && s.found == 0; i++ {
			m, err := s.c.nextOn(ctx, subject, s.known+1)
			if m == nil || err != nil {
				return err
			}
			s.known = event.Sequence(m.Sequence)
			s.lastOn = s.known
			if m.Header.Get(wire.HeaderID) == id {
				s.found = s.known
			}
		}
	}
	return nil
}

// lookThrough searches for an id with a consumer, which takes a moment to begin and
// then is fast.
func (s *sending) lookThrough(ctx context.Context, subject, id string) error {
	last, err := s.c.lastOn(ctx, subject)
	if last == nil || err != nil {
		return err
	}
	s.lastOn = event.Sequence(last.Sequence)
	if s.lastOn <= s.known {
		return nil
	}
	s.found, err = s.c.findID(ctx, subject, id, s.known, s.lastOn)
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
	} else if s.c.nc.IsClosed() {
		s.unsure = true
		return s.giveUp(s.c.closed())
	} else {
		v, err := judge(err)
		switch {
		case v == unsure, v == notStored && s.c.clustered: // a refusal is no proof there (see conflict)
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
	if ctx.Err() != nil || !s.c.pause(ctx, &s.wait) {
		if before != nil && errors.Is(err, ctx.Err()) {
			s.last = before // what was heard says more than that time is up
		}
		return s.giveUp(ctx.Err())
	}
	s.c.cfg.Logger.Debug("append: trying again", "err", s.last)
	s.told.wait(s.c, "an append", s.last)
	return nil
}

// giveUp ends an append that did not get its answer.
func (s *sending) giveUp(err error) error {
	err = s.c.inVain(err, s.last)
	if s.unsure {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return fmt.Errorf("not stored: %w", err)
}

// findID looks for an id on one literal subject in (after, until]; 0 if absent.
func (c *Client) findID(ctx context.Context, subject, id string, after, until event.Sequence) (event.Sequence, error) {
	for m, err := range c.Feed(ctx, FeedConfig{Subjects: []string{subject}, After: after, Until: until, HeadersOnly: true}) {
		if err != nil {
			return 0, err
		}
		if m.Header.Get(wire.HeaderID) == id {
			return m.Seq, nil
		}
	}
	return 0, nil
}
