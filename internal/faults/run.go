package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/mirror"
)

// Config says what a run does.
type Config struct {
	System *System
	// Seed gives the order of faults and of each client's operations.
	Seed uint64
	// Length is how long faults are made.
	Length time.Duration
	// Clients and Pace are of the load.
	Clients int
	Pace    time.Duration
	// Kinds, if not nil, are the only faults that are made.
	Kinds *regexp.Regexp
	// Say, if not nil, hears what happens.
	Say func(format string, args ...any)
}

// Report is what a run did and found.
type Report struct {
	*Verdict
	Seed     uint64
	Length   time.Duration
	Faults   map[string]int // how often each was made
	Skipped  map[string]string
	Events   int   // in the Log at the end
	Batches  int   // large ones, under faults of disks
	Copies   []int // messages in each node's copy of the Log, on disk
	Position event.Sequence
}

const (
	quiet = 90 * time.Second // how long a healed system may take to acknowledge
	calm  = time.Second      // between two faults, on average
)

// Run starts the system, makes faults while clients use it, heals it, and checks
// what they were told against what is there. The system has stopped when it returns.
func Run(ctx context.Context, cfg Config) (rep *Report, err error) {
	s := cfg.System
	say := cfg.Say
	if say == nil {
		say = func(string, ...any) {}
	}
	rep = &Report{Seed: cfg.Seed, Length: cfg.Length, Faults: map[string]int{}}
	defer func() {
		if serr := s.Stop(); err == nil {
			err = serr
		}
		if err != nil {
			err = fmt.Errorf("%w\nwhat the nodes said:\n%s", err, s.Words())
		}
	}()
	if err := s.Start(); err != nil {
		return rep, err
	}
	if err := s.ready(ctx); err != nil {
		return rep, err
	}
	history := NewHistory()
	load := &Load{Open: s.Client, Seed: cfg.Seed, Clients: cfg.Clients, Pace: cfg.Pace, History: history}
	if s.clock != nil {
		load.Lease = 100 * 365 * 24 * time.Hour
	}
	if err := load.Enter(ctx); err != nil {
		return rep, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan struct{})
	go func() { defer close(loaded); load.Run(loading) }()
	reading, endReaders := context.WithCancel(ctx)
	defer endReaders()
	readers, err := follow(reading, s)
	if err != nil {
		return rep, err
	}
	if err := alive(ctx, history); err != nil {
		return rep, err
	}
	var all []Fault
	all, rep.Skipped = s.Faults()
	if cfg.Kinds != nil {
		all = slices.DeleteFunc(all, func(f Fault) bool { return !cfg.Kinds.MatchString(f.Name) })
	}
	random := rand.New(rand.NewPCG(cfg.Seed, 1<<32))
	b := newBatcher(s, history, readers, cfg.Seed)
	order := random.Perm(len(all)) // each is made before any is made again
	for end := time.Now().Add(cfg.Length); time.Now().Before(end); load.NextEpoch() {
		if len(order) == 0 {
			order = random.Perm(len(all))
		}
		f := all[order[0]]
		order = order[1:]
		if err := s.once(ctx, f, b, random, say); err != nil {
			return rep, fmt.Errorf("%s: %w", f.Name, err)
		}
		rep.Faults[f.Name]++
		if err := alive(ctx, history); err != nil {
			return rep, fmt.Errorf("after %s: %w", f.Name, err)
		}
	}
	if err := s.Start(); err != nil {
		return rep, err
	}
	stop()
	<-loaded
	if err := rep.check(ctx, s, history, readers); err != nil {
		return rep, err
	}
	rep.Batches = len(b.sizes)
	for _, part := range b.parts {
		rep.problem(&rep.Torn, "during a fault %s", part)
	}
	if !s.Clustered {
		return rep, nil
	}
	endReaders()
	return rep, rep.replicas(ctx, s)
}

// replicas stops the nodes and compares their copies of the Log on disk.
func (r *Report) replicas(ctx context.Context, s *System) error {
	tmp, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // what stays is the system's to clean
	if err := s.caughtUp(ctx); err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	if err := s.Stop(); err != nil {
		return err
	}
	var names []string
	var copies [][]*jetstream.RawStreamMsg
	for _, n := range s.Nodes {
		all, err := Replica(ctx, n, tmp)
		if err != nil {
			return err
		}
		names, copies = append(names, n.Name), append(copies, all)
		r.Copies = append(r.Copies, len(all))
	}
	r.SameReplicas(names, copies)
	return nil
}

// once makes one fault, lets it last, undoes it, and lets the system rest.
func (s *System) once(ctx context.Context, f Fault, b *batcher, r *rand.Rand, say func(string, ...any)) error {
	now := b.history.Now
	hold := 50 * time.Millisecond
	if f.Hold > 0 {
		hold += time.Duration(r.Int64N(int64(f.Hold)))
	}
	end := func() {}
	if f.Batches {
		var err error
		if end, err = b.under(ctx); err != nil {
			return err
		}
	}
	begun := now()
	undo, err := f.Do(ctx, s, r)
	if err != nil {
		if undo != nil {
			err = errors.Join(err, undo())
		}
		end()
		return err
	}
	pause(ctx, hold)
	if f.Batches {
		b.look(ctx)
	}
	mending := now()
	err = undo()
	end()
	if err != nil {
		return err
	}
	say("%v to %v: %s, mended at %v", begun.Round(time.Millisecond), mending.Round(time.Millisecond), f.Name, now().Round(time.Millisecond))
	pause(ctx, time.Duration(r.Int64N(int64(2*calm))))
	return ctx.Err()
}

// pause waits where the caller's loop ends with ctx, or where only time is meant: the length
// of a fault, the calm after it.
func pause(ctx context.Context, d time.Duration) { _ = wait.For(ctx, d) }

// ready waits until clients can open the log.
func (s *System) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, end, err := s.Client(try)
		cancel()
		if err == nil {
			end()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("faults: the system does not start: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// alive waits until something is acknowledged that had not been when it was called.
func alive(ctx context.Context, h *History) error {
	begun := h.Now()
	for h.LastAck() <= begun {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if h.Now() > begun+quiet {
			return fmt.Errorf("faults: nothing was acknowledged for %v after the system was healed; the last errors were %s", quiet, h.errors(5))
		}
		pause(ctx, 5*time.Millisecond)
	}
	return nil
}

// check reads what is there and holds it against the history.
func (r *Report) check(ctx context.Context, s *System, h *History, readers []*reader) error {
	const each = 2 * time.Minute // a look
	bounded, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	c, end, err := s.Client(bounded)
	if err != nil {
		return err
	}
	defer end()
	// A node that was cut off until now answers with what it had: that is no linearizable
	// read, and the history must not be held against it.
	if _, err := c.Barrier(bounded); err != nil {
		return err
	}
	log, err := ReadLog(bounded, c)
	if err != nil {
		return err
	}
	r.Verdict = Check(h.Ops(), log)
	r.Position = event.Sequence(len(log))
	for _, m := range log {
		if m.Event.ID != "" {
			r.Events++
		}
	}
	for _, reader := range readers {
		bounded, cancel := context.WithTimeout(ctx, each)
		reader.check(bounded, r.Verdict, log)
		cancel()
	}
	dirs := map[string]bool{}
	for _, n := range s.Nodes {
		if dirs[n.Dir] {
			continue
		}
		dirs[n.Dir] = true
		bounded, cancel := context.WithTimeout(ctx, each)
		err := r.mirror(bounded, c, n)
		cancel()
		if err != nil {
			return fmt.Errorf("the mirror of %s: %w", n.Name, err)
		}
	}
	return nil
}

// mirror demands that a node's files hold what the Log holds.
func (r *Report) mirror(ctx context.Context, c *client.Client, n *Node) error {
	var rep mirror.Report
	var err error
	for begun := time.Now(); ; pause(ctx, 50*time.Millisecond) {
		rep, err = mirror.Verify(ctx, mirror.Config{Client: c, Dir: n.Dir})
		var behind *mirror.BehindError
		if err != nil || !errors.As(rep.Problem, &behind) || time.Since(begun) > time.Minute {
			break
		}
	}
	if err != nil {
		return err
	}
	if rep.Problem != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("the mirror of %s: %v", n.Name, rep.Problem))
	}
	if int(rep.Lines) != r.Events {
		r.Problems = append(r.Problems, fmt.Sprintf("the mirror of %s has %d lines, and the log %d events", n.Name, rep.Lines, r.Events))
	}
	return nil
}

// caughtUp waits until every node holds all of the Log. It appends meanwhile: a node that led
// while it was cut off gives up what only it has one message at a time, with each message
// that is new (nats-server 2.15.2, raft.go, processAppendEntry), and where nothing is new it
// takes a second or more for each.
func (s *System) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	c, end, err := s.Client(ctx)
	if err != nil {
		return err
	}
	defer end()
	var last client.State
	for {
		st, err := c.Admin().State(ctx)
		if err == nil {
			last = st
		}
		behind := 0
		for _, r := range st.Replicas {
			if !r.Current || r.Lag > 0 || r.Offline {
				behind++
			}
		}
		if err == nil && len(st.Replicas) == len(s.Nodes) && behind == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("faults: the nodes have not caught up within %v: %+v %w", quiet, last.Replicas, err)
		}
		_, _ = c.Barrier(ctx) // the smallest append; what stands in its way, State tells
		pause(ctx, 50*time.Millisecond)
	}
}

// Table prints reports side by side.
func Table(names []string, reports []*Report) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	row := func(name string, f func(*Report) any) {
		fmt.Fprintf(w, "| %s", name)
		for _, r := range reports {
			fmt.Fprintf(w, "\t| %v", f(r))
		}
		fmt.Fprintln(w, "\t|")
	}
	fmt.Fprintf(w, "| \t| %s\t|\n", strings.Join(names, "\t| "))
	fmt.Fprintf(w, "|---%s\t|\n", strings.Repeat("\t|---", len(names)))
	row("seed", func(r *Report) any { return r.Seed })
	row("length", func(r *Report) any { return r.Length })
	kinds := map[string]bool{}
	var order []string
	for _, r := range reports {
		for k := range r.Faults {
			if !kinds[k] {
				kinds[k] = true
				order = append(order, k)
			}
		}
	}
	for _, k := range order {
		row(k, func(r *Report) any { return r.Faults[k] })
	}
	row("operations", func(r *Report) any { return r.Operations })
	row("acknowledged", func(r *Report) any { return r.Acknowledged })
	row("outcome unknown", func(r *Report) any { return r.Unknown })
	row("large batches under faults", func(r *Report) any { return r.Batches })
	row("events in the log", func(r *Report) any { return r.Events })
	row("messages on each disk", func(r *Report) any { return r.Copies })
	row("lost", func(r *Report) any { return r.Lost })
	row("twice", func(r *Report) any { return r.Twice })
	row("reordered", func(r *Report) any { return r.Reordered })
	row("stored though refused", func(r *Report) any { return r.Promised })
	row("torn batches", func(r *Report) any { return r.Torn })
	row("not linearizable", func(r *Report) any { return r.NotLinearizable })
	row("wrong subscribers", func(r *Report) any { return r.Subscribers })
	row("longest wait", func(r *Report) any { return r.LongestWait.Round(time.Millisecond) })
	_ = w.Flush()
	return b.String()
}

// SeedFrom reads a seed, or makes one.
func SeedFrom(env string) (uint64, error) {
	var seed uint64
	if s := os.Getenv(env); s != "" {
		_, err := fmt.Sscan(s, &seed)
		return seed, err
	}
	return uint64(time.Now().UnixNano()), nil
}
