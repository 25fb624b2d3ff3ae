package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

const (
	// batchBytes ends a batch: it holds less than this before its last line.
	batchBytes = 1 << 20
	// batchTime is the longest time that a line waits for further lines.
	batchTime = 20 * time.Millisecond
	// batchPause is the shortest time between two batches while the mirror keeps up: Run
	// writes a single event at once, and 2,000 events/s share 100 fsyncs/s.
	batchPause = 10 * time.Millisecond
	// keepBuffer is the largest buffer that is used again for the next batch.
	keepBuffer = 4 << 20
)

// batch is a group of lines that are written and synced together.
type batch struct {
	data  []byte
	lines uint64
	first event.Sequence // of the first line
	begun time.Time      // when the first line came
	since time.Time      // when the first line's event was stored, by the server's clock

	at       event.Sequence // the Log's position behind the batch, guards included
	pending  uint64         // messages that the Log held beyond at
	setAside uint64         // messages that make no line, and are no guards
	moved    bool           // at was set

	same chan error // of a full batch: whether the Log is still the one that it was read from
}

// gather turns the Log into lines while the writer syncs the batch before: one goroutine
// fills, another takes. So a batch holds at least the events of the last fsync's
// duration, and at most two batches are in memory.
type gather struct {
	cfg   Config
	sum   *chainer
	at    event.Sequence // only the filling goroutine's, as sum and chain
	chain chain
	ask   func(context.Context, event.Sequence) error // the runner's sameLog; nil in a benchmark
	asked sync.WaitGroup

	wake chan struct{} // to the writer: a first line, a full batch, the tail of the Log, the end
	room chan struct{} // from the writer: the batch was taken

	mu    sync.Mutex // guards what follows: the batch and whether more will come
	b     *batch
	spare []byte
	ended bool
	err   error // why it ended
}

func newGather(cfg Config, at event.Sequence, c chain) *gather {
	return &gather{
		cfg: cfg, sum: newChainer(), at: at, chain: c, b: &batch{},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// run fills until ctx ends, the Log cannot be read, or the Log has a gap.
func (g *gather) run(ctx context.Context) {
	defer g.asked.Wait()
	err := g.fill(ctx)
	g.mu.Lock()
	g.ended, g.err = true, err
	g.mu.Unlock()
	signal(g.wake)
}

func (g *gather) fill(ctx context.Context) error {
	for m, err := range g.cfg.Client.Feed(ctx, client.FeedConfig{After: g.at, NoHeaders: true}) {
		if errors.Is(err, client.ErrOtherLog) {
			return errReplaced // which restarts with all checks of a resume
		}
		if err != nil {
			return gapOf(err)
		}
		if m.Seq != g.at+1 {
			return &GapError{After: g.at, Next: m.Seq}
		}
		g.at = m.Seq
		if err := g.add(ctx, m); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// add takes one message into the batch, as a line if it is an event.
func (g *gather) add(ctx context.Context, m client.Message) error {
	isLine, aside := !wire.IsGuard(m.Subject), false
	if isLine {
		if err := wire.Check(m.Subject, m.Data, m.Seq); err != nil {
			g.cfg.Logger.Warn("mirror: set aside", "seq", m.Seq, "err", err)
			isLine, aside = false, true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.b.data) >= g.cfg.batchBytes {
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-g.room:
		}
		g.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b := g.b
	b.at, b.pending, b.moved = m.Seq, m.Pending, true
	if aside {
		b.setAside++
	}
	if isLine {
		g.line(b, m)
	}
	full := len(b.data) >= g.cfg.batchBytes
	if full && g.ask != nil { // nothing is added to it any more
		same, at := make(chan error, 1), b.at
		b.same = same
		g.asked.Go(func() { same <- g.ask(ctx, at) })
	}
	if b.lines == 1 && isLine || b.pending == 0 || full {
		signal(g.wake)
	}
	return nil
}

func (g *gather) line(b *batch, m client.Message) {
	if b.lines == 0 {
		b.data, g.spare = g.spare[:0], nil
		b.first, b.begun, b.since = m.Seq, time.Now(), m.Stored
	}
	b.lines++
	b.data, g.chain = g.sum.appendLine(b.data, m.Seq, m.Data, g.chain)
}

// look reports the state of the batch.
func (g *gather) look() (b batch, ended bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.b, g.ended, g.err
}

// take takes the batch away.
func (g *gather) take() *batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.b
	g.b = &batch{}
	signal(g.room)
	return b
}

// reuse gives a written batch's buffer back.
func (g *gather) reuse(b *batch) {
	if cap(b.data) > keepBuffer {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spare = b.data
}

// signal leaves one signal, unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
