package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
)

// bridge brings the events of one run of OpenCode into the Log.
//
// A bus event is answered when all that follows from it is durable. For most that is
// what was made of it at once; a piece of a text is answered with the snapshot that it
// is in, at most a second later. So whoever keeps what has no answer, and sends it
// again to the next process, loses nothing when this one is killed: not even the last
// second of a text. The next process is seeded from the Log, and knows by the snapshot
// which pieces it has.
//
// Events are translated in the order of the requests, and written by one goroutine in
// that order; any other method waits until they are written.
//
// At its start a process reads in the Log what is known of sessions' families and of
// questions, and, where it follows another process of the same run, all that the run
// has stored; the run's file says from where on.
type bridge struct {
	s        *server
	instance string
	stored   func(id string) bool // by an earlier process

	mu     sync.Mutex // guards all below; never held while waiting
	tr     *opencode.Translator
	held   map[int64]*taken // by ticket
	queue  []written
	bytes  int           // of events in the queue and being written
	armed  bool          // a tick is on its way
	closed bool          // nothing more will be queued
	err    error         // why nothing can be written any more
	moved  chan struct{} // closed and replaced at every change

	warned atomic.Bool // of the disk, since it last took something

	told  map[string]bool // the questions that OpenCode was told the answer to; follow's own
	leave func()          // OpenCode has gone: it is told nothing more
}

// taken is a bus event that waits for its answer.
type taken struct {
	finish func(any, error)
	stored int
	err    error // the first one of what follows from it
}

// written is what has to be written, and then answered.
type written struct {
	items []opencode.Item
	of    *taken // whose items they are; nil: of several
	done  []*taken
	then  func()
}

// answers adds who held a ticket.
func (w *written) answers(held map[int64]*taken, ticket int64) {
	if t := held[ticket]; t != nil {
		delete(held, ticket)
		w.done = append(w.done, t)
	}
}

// queuedMost is how many bytes of events may wait for the Log before no more requests
// are taken.
const queuedMost = 32 << 20

// room for what stands beside the payload in a message.
const envelope = 64 << 10

func (s *server) opencodeEvent(k *call) (any, error) {
	var p struct {
		Event    json.RawMessage `json:"event"`
		Instance string          `json:"instance"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	if len(p.Event) == 0 {
		return nil, &event.InvalidError{Field: "event", Value: "", Rule: "must be there: the bus event as OpenCode sent it"}
	}
	b, err := s.bridgeOf(k.ctx, p.Instance)
	if fatal(err) {
		k.later = true // never: it is sent again, to the next process
		s.fail(fmt.Errorf("rpc: the log cannot be read for what OpenCode did before: %w", err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.later = true
	b.take(k.ctx, opencode.Parse(p.Event), k.finish)
	return nil, nil
}

// bridgeOf begins the bridge with the first event.
func (s *server) bridgeOf(ctx context.Context, instance string) (*bridge, error) {
	if s.bridge != nil && s.bridge.instance == instance {
		return s.bridge, nil
	}
	if s.bridge != nil {
		return nil, &event.InvalidError{Field: "instance", Value: instance, Rule: fmt.Sprintf("must be that of the first event, %q: start a process for each run of OpenCode", s.bridge.instance)}
	}
	if err := event.ValidateID("instance", instance); err != nil {
		return nil, err
	}
	position, err := s.c.Barrier(ctx)
	if err != nil {
		return nil, err
	}
	lock, began, err := s.cfg.Runs.hold(ctx, instance, position)
	if err != nil {
		s.cfg.Logger.Warn("other runs of OpenCode cannot see that this one is alive", "err", err)
		err = nil
	}
	f, a := opencode.Fold{Instance: instance}, opencode.Answers{}
	apply := func(after, until event.Sequence, types []string) error {
		for r, err := range s.c.Query(ctx, event.Filter{Types: types, After: after}) {
			if err != nil || until != 0 && r.Seq > until {
				return err
			}
			f.Apply(r)
			a.Apply(r)
		}
		return nil
	}
	// Of what was before this run, its sessions' families and all questions matter; of
	// this run, everything.
	if began > 0 {
		err = apply(0, began, f.FamilyTypes())
	}
	if err == nil && began < position {
		err = apply(began, 0, f.SeedTypes())
	}
	if err != nil {
		if lock != nil {
			_ = lock.Unlock()
		}
		return nil, err
	}
	b := &bridge{
		s: s, instance: instance, stored: f.Stored, held: map[int64]*taken{}, moved: make(chan struct{}), told: map[string]bool{},
		tr: opencode.New(opencode.Config{Instance: instance, Limit: s.c.MaxPayload() - envelope}),
	}
	b.tr.Seed(&f)
	s.bridge = b
	s.bridges.Go(b.write)
	live, cancel := context.WithCancel(s.work)
	b.leave = func() {
		cancel()
		if lock != nil {
			_ = lock.Unlock() // which the end of the process does, too
		}
	}
	s.bridges.Go(func() { b.follow(live, &a, position) })
	return b, nil
}

// take translates one event and leaves the rest to the writer.
func (b *bridge) take(ctx context.Context, e opencode.BusEvent, finish func(any, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until(ctx, func() bool { return b.bytes < queuedMost || b.err != nil })
	t := &taken{finish: finish}
	w := written{of: t, items: b.tr.Take(e, time.Now())}
	t.stored = len(w.items)
	if ticket, held := b.tr.Held(); held {
		b.held[ticket] = t
	} else {
		w.done = append(w.done, t)
	}
	b.put(w)
}

// tick stores the texts that are due.
func (b *bridge) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	if !b.closed {
		b.put(written{items: b.tr.Tick(time.Now())})
	}
}

// put hands over to the writer. Called with mu held.
func (b *bridge) put(w written) {
	for _, ticket := range b.tr.Released() {
		w.answers(b.held, ticket)
	}
	for _, i := range w.items {
		b.bytes += size(i.Event)
	}
	if len(w.items) > 0 || len(w.done) > 0 || w.then != nil {
		b.queue = append(b.queue, w)
		b.tell()
	}
	if at, due := b.tr.Due(); due && !b.armed && !b.closed {
		b.armed = true
		time.AfterFunc(max(time.Until(at), time.Millisecond), b.tick)
	}
}

func size(e event.Event) int { return len(e.Payload) + len(e.Metadata) + 500 }

// drain waits until all that was taken is written, or cannot be.
func (b *bridge) drain(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	done := false
	b.put(written{then: func() { done = true }})
	b.until(ctx, func() bool { return done || b.err != nil })
}

// end stores what is left in memory, and waits until all is written. An error says
// that it could not be.
func (b *bridge) end(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		last := written{items: b.tr.Flush(time.Now())}
		for _, ticket := range b.tr.Released() {
			last.answers(b.held, ticket)
		}
		for ticket := range b.held { // a text that began, and nothing more
			last.answers(b.held, ticket)
		}
		b.put(last)
		b.closed = true
		b.tell()
	}
	b.until(ctx, func() bool { return len(b.queue) == 0 && b.bytes == 0 || b.err != nil })
	if b.err == nil && ctx.Err() != nil {
		return errors.New("rpc: the log did not answer in time: the last events of OpenCode may not be stored; send again what had no answer")
	}
	return b.err
}

// until waits for a change that makes ok true. Called with mu held, and comes back
// with it.
func (b *bridge) until(ctx context.Context, ok func() bool) {
	for !ok() && ctx.Err() == nil {
		moved := b.moved
		b.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
}

func (b *bridge) tell() {
	close(b.moved)
	b.moved = make(chan struct{})
}

// What one batch holds at most. A batch costs some 7 ms, whatever is in it, and an
// append alone 1 or 2.
const (
	batchLeast = 6
	batchMost  = 500
	batchBytes = 4 << 20
)

// write is the writer.
func (b *bridge) write() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		b.until(b.s.work, func() bool { return len(b.queue) > 0 || b.closed })
		works := b.queue
		b.queue = nil
		if len(works) == 0 {
			return // closed, or out of time
		}
		b.mu.Unlock()
		err := b.writeAll(works)
		b.mu.Lock()
		if err != nil {
			// Without an answer: the caller sends it all again, to the next process.
			b.err, b.closed = err, true
			b.s.fail(err)
		}
		b.tell()
		if err != nil {
			return
		}
	}
}

// run is a row of events that need no guard, and who waits for them.
type run struct {
	events []event.Event
	of     []*taken
	bytes  int
	done   []*taken
	then   []func()
}

// writeAll writes in order, in as few batches as is good.
func (b *bridge) writeAll(works []written) error {
	r := &run{}
	for _, w := range works {
		for _, i := range w.items {
			if i.Kind == opencode.Plain {
				if b.stored(i.Event.ID) {
					b.wrote(size(i.Event))
					continue
				}
				r.events, r.of, r.bytes = append(r.events, i.Event), append(r.of, w.of), r.bytes+size(i.Event)
				if len(r.events) < batchMost && r.bytes < batchBytes {
					continue
				}
			}
			if err := b.flush(r); err != nil {
				return err
			}
			if i.Kind != opencode.Plain {
				err := b.guarded(i)
				if fatal(err) {
					return err
				}
				b.blame(w.of, err)
				b.wrote(size(i.Event))
			}
		}
		r.done = append(r.done, w.done...)
		if w.then != nil {
			r.then = append(r.then, w.then)
		}
		if len(r.events) == 0 {
			b.answer(r)
		}
	}
	return b.flush(r)
}

// flush writes a run and answers who waited for it.
func (b *bridge) flush(r *run) error {
	err := errOneByOne
	if len(r.events) >= batchLeast {
		err = b.patiently(func() error {
			_, err := b.s.c.AppendBatch(b.s.work, r.events)
			return err
		})
	}
	// A batch is refused as a whole, be it for one event of it that is there already.
	if err != nil && !fatal(err) {
		for i, e := range r.events {
			if err = b.append(e); fatal(err) {
				return err
			}
			b.blame(r.of[i], err)
		}
	} else if err != nil {
		return err
	}
	b.wrote(r.bytes)
	r.events, r.of, r.bytes = nil, nil, 0
	b.answer(r)
	return nil
}

var errOneByOne = fmt.Errorf("%w: too few for a batch", client.ErrDuplicateID)

func (b *bridge) answer(r *run) {
	for _, t := range r.done {
		if t.err != nil {
			t.finish(nil, t.err)
		} else {
			t.finish(map[string]int{"stored": t.stored}, nil)
		}
	}
	b.mu.Lock()
	for _, then := range r.then {
		then()
	}
	b.tell()
	b.mu.Unlock()
	r.done, r.then = nil, nil
}

func (b *bridge) wrote(bytes int) {
	b.mu.Lock()
	b.bytes -= bytes
	b.tell()
	b.mu.Unlock()
}

// blame keeps the first error of what follows from an event, for its answer.
func (b *bridge) blame(t *taken, err error) {
	if err == nil {
		return
	}
	b.s.cfg.Logger.Error("an event of OpenCode could not be stored", "err", err)
	if t != nil && t.err == nil {
		t.stored--
		t.err = err
	}
}
