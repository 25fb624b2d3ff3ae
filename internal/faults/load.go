package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"durablestream/client"
	"durablestream/event"
)

// Open gives a client over a connection of its own, and what closes it.
type Open func(ctx context.Context) (c *client.Client, closeIt func(), err error)

// Load is a set of clients that use the log as agents do, and write down what they
// were told.
type Load struct {
	Open    Open
	Seed    uint64
	Clients int
	History *History
	// First numbers the first event of each client: for a load that follows another.
	First int
	// Pace is how long a client rests between two operations, on average.
	Pace time.Duration
	// Lease is how long claims last, which no run may outlast. Default: an hour.
	Lease time.Duration
	// BlindRetry sends a publish that was not answered again under a new id: the
	// control, which must be seen to store twice.
	BlindRetry bool

	agents []*agent     // who have entered
	epoch  atomic.Int64 // shared keys are of one epoch, so that no key has a long history
}

// NextEpoch makes the clients use new shared keys from now on.
func (l *Load) NextEpoch() { l.epoch.Add(1) }

// Enter opens all clients. Who is refused is an error, so faults begin when all are in: a
// server that is down lets nobody in, whose program would be started again.
func (l *Load) Enter(ctx context.Context) error {
	agents := make([]*agent, l.Clients)
	errs := make([]error, l.Clients)
	var entering sync.WaitGroup
	for i := range agents {
		entering.Go(func() {
			c, leave, err := l.Open(ctx)
			if err != nil {
				errs[i] = fmt.Errorf("client %d: %w", i, err)
				return
			}
			agents[i] = &agent{Load: l, i: i, c: c, leave: leave, random: rand.New(rand.NewPCG(l.Seed, uint64(i))), n: l.First}
		})
	}
	entering.Wait()
	l.agents = slices.DeleteFunc(agents, func(a *agent) bool { return a == nil })
	if err := errors.Join(errs...); err != nil {
		for _, a := range l.agents {
			a.leave()
		}
		l.agents = nil
		return err
	}
	return nil
}

// Run runs the clients, who have entered, until ctx ends, and waits until each knows the
// outcome of its last operation, or that there is none. Then they leave.
func (l *Load) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, a := range l.agents {
		running.Go(func() { a.run(ctx) })
	}
	running.Wait()
}

// agent is one client of the load.
type agent struct {
	*Load
	i      int
	c      *client.Client
	leave  func()
	random *rand.Rand
	n      int // events so far, for their ids
}

func (a *agent) run(ctx context.Context) {
	defer a.leave()
	for ctx.Err() == nil {
		a.step(context.WithoutCancel(ctx))
		if a.Pace > 0 { // the time is the pace: nothing is waited for
			pause(ctx, time.Duration(a.random.Int64N(int64(2*a.Pace))))
		}
	}
}

// step does one operation. Most have much time, and some so little that a fault
// leaves them without an outcome.
func (a *agent) step(ctx context.Context) {
	patience := 90 * time.Second
	if a.random.IntN(3) == 0 {
		patience = time.Duration(20+a.random.IntN(400)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	shared := fmt.Sprintf("e%d-%d", a.epoch.Load(), a.random.IntN(3))
	switch p := a.random.IntN(100); {
	case p < 50:
		a.append(ctx, fmt.Sprintf("own-%d", a.i))
	case p < 62:
		a.append(ctx, "shared-"+shared)
	case p < 66:
		a.batch(ctx, fmt.Sprintf("own-%d", a.i))
	case p < 76:
		a.guarded(ctx, "guard-"+shared)
	case p < 80:
		a.look(ctx, "guard-"+shared)
	case p < 86:
		a.decide(ctx, "cp-"+shared)
	case p < 92:
		a.claim(ctx, "intent-"+shared)
	default:
		a.query(ctx, "shared-"+shared)
	}
}

// do times one operation and writes it down.
func (a *agent) do(op Op, f func(*Op) error) {
	op.Client, op.Call = a.i, a.History.Now()
	err := f(&op)
	op.Return = a.History.Now()
	if op.Outcome == "" {
		op.Outcome = outcome(op.Kind, err)
	}
	if err != nil {
		op.Err = err.Error()
	}
	a.History.Add(op)
}

// outcome sorts an error by what it promises.
func outcome(k Kind, err error) Outcome {
	switch {
	case err == nil:
		return Done
	case k == Query || k == Look:
		return NoAnswer
	case errors.Is(err, client.ErrUnknownOutcome):
		return Unknown
	}
	return Refused
}

func (a *agent) event(stream string) event.Event {
	a.n++
	return event.Event{
		ID: fmt.Sprintf("c%d-%d", a.i, a.n), Type: "fault.event", StreamID: stream,
		Actor: fmt.Sprintf("agent/%d", a.i), Payload: fmt.Appendf(nil, `{"n":%d}`, a.n),
	}
}

func (a *agent) append(ctx context.Context, stream string) {
	e := a.event(stream)
	a.do(Op{Kind: Append, Key: stream, IDs: []string{e.ID}}, func(op *Op) error {
		r, err := a.c.Append(ctx, e)
		if err != nil && a.BlindRetry {
			e.ID += "-again"
			r, err = a.c.Append(context.WithoutCancel(ctx), e)
		}
		if err == nil {
			op.Seqs = []event.Sequence{r.Seq}
		}
		return err
	})
}

func (a *agent) batch(ctx context.Context, stream string) {
	events := make([]event.Event, 2+a.random.IntN(8))
	op := Op{Kind: Batch, Key: stream}
	for i := range events {
		events[i] = a.event(stream)
		op.IDs = append(op.IDs, events[i].ID)
	}
	a.do(op, func(op *Op) error {
		rs, err := a.c.AppendBatch(ctx, events)
		for _, r := range rs {
			op.Seqs = append(op.Seqs, r.Seq)
		}
		return err
	})
}

// guarded moves a guard that others move as well, from where it was a moment ago.
func (a *agent) guarded(ctx context.Context, name string) {
	at, err := a.c.GuardPosition(ctx, name)
	if err != nil {
		return // it says nothing
	}
	e := a.event("behind-" + name)
	a.do(Op{Kind: Guarded, Key: name, IDs: []string{e.ID}, Expected: at}, func(op *Op) error {
		seq, _, err := a.c.AppendGuarded(ctx, client.Guard{Name: name, Expected: at}, e)
		op.Seqs = []event.Sequence{seq}
		var lost *client.ConflictError
		if errors.As(err, &lost) {
			op.Outcome, op.SeenSeq = Lost, lost.Seq
		}
		return err
	})
}

// look reads a guard behind a barrier.
func (a *agent) look(ctx context.Context, name string) {
	a.do(Op{Kind: Look, Key: name}, func(op *Op) error {
		if _, err := a.c.Barrier(ctx); err != nil {
			return err
		}
		at, err := a.c.GuardPosition(ctx, name)
		op.Seqs = []event.Sequence{at}
		return err
	})
}

// decide asks a question, if nobody has, and decides it, if nobody has.
func (a *agent) decide(ctx context.Context, id string) {
	if _, err := a.c.Checkpoints().Request(ctx, client.CheckpointRequest{
		ID: id, StreamID: "s-" + id, RequestedBy: "agent/asker", DecisionPoint: "?", Options: []event.Option{{ID: "yes"}, {ID: "no"}},
	}); err != nil {
		return
	}
	e := a.event("s-" + id)
	e.Type, e.Actor = event.CheckpointApproved, fmt.Sprintf("human/%d", a.i)
	e.Payload = fmt.Appendf(nil, `{"checkpoint_id":%q,"approved_by":%q,"selected_option":"yes"}`, id, e.Actor)
	a.do(Op{Kind: Decide, Key: id, IDs: []string{e.ID}}, func(op *Op) error {
		r, err := a.c.Append(ctx, e)
		op.Seqs = []event.Sequence{r.Seq}
		var decided *client.DecidedError
		if errors.As(err, &decided) && decided.Checkpoint.Decision != nil {
			op.Outcome, op.Seen = Lost, decided.Checkpoint.Decision.EventID
		}
		return err
	})
}

// claim claims an intent for longer than the run, so that one claim of all stands.
func (a *agent) claim(ctx context.Context, id string) {
	_, err := a.c.Intents().Create(ctx, client.IntentSpec{ID: id, StreamID: "s-" + id, Actor: "agent/creator"})
	var exists *client.ConflictError
	if err != nil && !errors.As(err, &exists) {
		return
	}
	a.n++
	holder := fmt.Sprintf("worker-%d-%d", a.i, a.n)
	a.do(Op{Kind: Claim, Key: id, IDs: []string{holder}}, func(op *Op) error {
		lease, err := a.c.Intents().Claim(ctx, id, holder, cmp.Or(a.Lease, time.Hour))
		op.Seqs = []event.Sequence{lease.Token}
		var held *client.HeldError
		if errors.As(err, &held) {
			op.Outcome, op.Seen = Lost, held.Intent.Holder
		}
		return err
	})
}

func (a *agent) query(ctx context.Context, stream string) {
	a.do(Op{Kind: Query, Key: stream}, func(op *Op) error {
		for r, err := range a.c.Query(ctx, event.Filter{StreamID: stream, Linearizable: true}) {
			if err != nil {
				return err
			}
			op.Got = append(op.Got, r.ID)
		}
		return nil
	})
}
