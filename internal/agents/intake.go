// Package agents brings the feed of one run of an agent into the Log, as events, questions
// and answers, and brings the decisions of people back to the agent. A Source translates:
// each kind of agent has one in a package of its own, beside package source, which has the
// types that they share.
package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/source"
)

// Config says what an Intake takes in, and where to.
type Config struct {
	// Client is of the Log. Required.
	Client *client.Client
	// Agent is the kind of agent, and Instance names the run of it. Required.
	Agent    source.Agent
	Instance string
	// Runs says which runs of this kind of agent are alive. Default: nobody knows.
	Runs Presence
	// Notify sends the agent a message: an "answer" in its Source's form, or a "notice"
	// for the human beside it. It may be called from anywhere, and must not wait.
	// Required.
	Notify func(what string, params any)
	// Fail hears that nothing can be stored, or carried back, any more. Required.
	Fail func(error)
	// Logger hears of what could not be stored. Default: discarded.
	Logger *slog.Logger
}

// Intake brings the feed of one run of an agent into the Log.
//
// The intake answers an event of the feed when everything that it made of the event is
// durable. For most events that is at once; a piece of a text is answered with the snapshot
// that contains it, at most a second later. So a sender that keeps the events without an
// answer, and sends them to the next process, loses nothing when this process is killed:
// not even the last second of a text. The next process is seeded from the Log, and sees in
// the snapshot which pieces it has.
//
// Events are translated in the order of Take, and written by one goroutine in that
// order; Drain waits until they are written.
//
// At its start a process reads the sessions' families and all questions from the Log. Where
// it follows another process of the same run, it reads everything that the run has stored,
// from the Sequence in the run's file on.
type Intake struct {
	cfg       Config
	agent     source.Agent
	work      context.Context // of all that must be done
	running   sync.WaitGroup
	questions *Questions // follow's own

	mu     sync.Mutex // guards all below; never held while waiting
	source source.Source
	held   map[int64]*taken // by ticket
	queue  []written
	bytes  int           // of events in the queue and being written
	armed  bool          // a tick is on its way
	closed bool          // nothing more will be queued
	err    error         // why nothing can be written any more
	moved  chan struct{} // closed and replaced at every change

	warned atomic.Bool // of the disk, since it last took something

	told  map[string]bool // the questions whose answers the agent has; follow's own
	leave func()
}

// Start seeds the Source from the Log, and begins to bring decisions back. The intake stores
// events until ctx ends; the caller calls Leave, End and Wait, in this order. Fatal reports
// whether an error is about the Log.
func Start(ctx context.Context, cfg Config) (*Intake, error) {
	if err := event.ValidateID("instance", cfg.Instance); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	position, err := cfg.Client.Barrier(ctx)
	if err != nil {
		return nil, err
	}
	lock, began, err := cfg.Runs.hold(ctx, cfg.Instance, position)
	if err != nil {
		cfg.Logger.Warn("other runs of "+cfg.Agent.Title+" cannot see that this one is alive", "err", err)
	}
	src := cfg.Agent.New(source.Config{Instance: cfg.Instance, Limit: cfg.Client.MaxPayload() - envelope})
	in := &Intake{
		cfg: cfg, agent: cfg.Agent, work: ctx, source: src, questions: NewQuestions(cfg.Agent, src),
		held: map[int64]*taken{}, moved: make(chan struct{}), told: map[string]bool{},
	}
	if err := in.seed(ctx, began, position); err != nil {
		release(lock)
		return nil, err
	}
	in.running.Go(in.write)
	live, cancel := context.WithCancel(ctx)
	in.leave = func() {
		cancel()
		release(lock) // which the end of the process does, too
	}
	in.running.Go(func() { in.follow(live, position) })
	return in, nil
}

func release(lock *flock.Flock) {
	if lock != nil {
		_ = lock.Unlock()
	}
}

// seed reads the sessions' families and all questions from before this run, and everything
// of this run.
func (in *Intake) seed(ctx context.Context, began, position event.Sequence) error {
	apply := func(after, until event.Sequence, types []string) error {
		for r, err := range in.cfg.Client.Query(ctx, event.Filter{Types: append(in.questions.Types(), types...), After: after}) {
			if err != nil || until != 0 && r.Seq > until {
				return err
			}
			in.source.Seed(r)
			in.questions.Apply(r)
		}
		return nil
	}
	if began > 0 {
		if err := apply(0, began, in.agent.FamilyTypes); err != nil {
			return err
		}
	}
	if began < position {
		return apply(began, 0, in.agent.RunTypes)
	}
	return nil
}

// taken is an event of the feed that waits for its answer.
type taken struct {
	finish func(stored int, err error)
	stored int
	err    error // the first one of what follows from it
}

// written is what has to be written, and then answered.
type written struct {
	items []source.Item
	of    *taken // whose items they are; nil: of several
	done  []*taken
	then  func()
}

// answers adds the holder of a ticket.
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

// Take translates one event of the feed and leaves the rest to the writer. finish is called
// once, from anywhere, when all that follows from the event is durable, with how many
// events were stored; or never: after Fail.
func (in *Intake) Take(ctx context.Context, raw json.RawMessage, finish func(stored int, err error)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.until(ctx, func() bool { return in.bytes < queuedMost || in.err != nil })
	t := &taken{finish: finish}
	step := in.source.Take(raw, time.Now())
	w := written{of: t}
	t.stored = len(step.Items)
	if step.Ticket != 0 {
		in.held[step.Ticket] = t
	} else {
		w.done = append(w.done, t)
	}
	in.putStep(w, step)
}

// tick stores the texts that are due.
func (in *Intake) tick() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.armed = false
	if !in.closed {
		in.putStep(written{}, in.source.Tick(time.Now()))
	}
}

// putStep hands over what follows from a step. Called with mu held.
func (in *Intake) putStep(w written, step source.Step) {
	w.items = step.Items
	for _, ticket := range step.Released {
		w.answers(in.held, ticket)
	}
	in.put(w)
	if !step.Due.IsZero() && !in.armed && !in.closed {
		in.armed = true
		time.AfterFunc(max(time.Until(step.Due), time.Millisecond), in.tick)
	}
}

// put hands over to the writer. Called with mu held.
func (in *Intake) put(w written) {
	for _, i := range w.items {
		in.bytes += size(i.Event)
	}
	if len(w.items) > 0 || len(w.done) > 0 || w.then != nil {
		in.queue = append(in.queue, w)
		in.tell()
	}
}

func size(e event.Event) int { return len(e.Payload) + len(e.Metadata) + 500 }

// Drain waits until all that was taken is written, or cannot be.
func (in *Intake) Drain(ctx context.Context) {
	in.mu.Lock()
	defer in.mu.Unlock()
	done := false
	in.put(written{then: func() { done = true }})
	in.until(ctx, func() bool { return done || in.err != nil })
}

// Leave says that the agent has gone: it gets no more messages, and its run is over.
func (in *Intake) Leave() { in.leave() }

// Wait waits until nothing of the intake runs any more: after Leave, and after End or
// the end of Start's context.
func (in *Intake) Wait() { in.running.Wait() }

// End stores the events that are left in memory, and waits until all are written. It returns
// an error if they could not be.
func (in *Intake) End(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		step := in.source.Flush(time.Now())
		last := written{items: step.Items}
		for _, ticket := range step.Released {
			last.answers(in.held, ticket)
		}
		for ticket := range in.held { // a text that began, and nothing more
			last.answers(in.held, ticket)
		}
		in.put(last)
		in.closed = true
		in.tell()
	}
	in.until(ctx, func() bool { return len(in.queue) == 0 && in.bytes == 0 || in.err != nil })
	if in.err == nil && ctx.Err() != nil {
		return fmt.Errorf("agents: the log did not answer in time: the last events of %s may not be stored; send again what had no answer", in.agent.Title)
	}
	return in.err
}

// until waits for a change that makes ok true. Called with mu held, and comes back
// with it.
func (in *Intake) until(ctx context.Context, ok func() bool) {
	for !ok() && ctx.Err() == nil {
		moved := in.moved
		in.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		in.mu.Lock()
	}
}

func (in *Intake) tell() {
	close(in.moved)
	in.moved = make(chan struct{})
}
