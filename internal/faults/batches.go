package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/mirror"
)

// batcher appends batches of some hundred events while a disk is sick, and finds who sees a
// part of one meanwhile: a query at any time, and a reader or a mirror that got some members
// and does not get the others. The check at the end of a run would miss that, since the
// engine completes such a batch later.
type batcher struct {
	s       *System
	history *History
	readers []*reader
	random  *rand.Rand

	mu    sync.Mutex     // guards both below
	sizes map[string]int // members, by the batch's stream
	parts []string       // what was seen
}

func newBatcher(s *System, h *History, readers []*reader, seed uint64) *batcher {
	return &batcher{s: s, history: h, readers: readers, random: rand.New(rand.NewPCG(seed, 1<<33)), sizes: map[string]int{}}
}

const (
	batchesEach = 40 // at most, under one fault, of which
	batchesFast = 5  // follow each other at once; more would only make a long run's log large
	batchPad    = 900
	// batchGrace is how long the rest of a batch may take to reach a reader: much longer than
	// it takes on a machine that is busy.
	batchGrace = 10 * time.Second
)

// under appends one batch after another until the returned function is called, which waits
// for the outcome of the last one. It returns when the first is stored.
func (b *batcher) under(ctx context.Context) (end func(), err error) {
	c, leave, err := b.s.Client(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.append(ctx, c); err != nil {
		leave()
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer leave()
		for n := range batchesEach {
			if running.Err() != nil {
				return
			}
			switch err := b.append(ctx, c); {
			case err != nil:
				pause(running, 100*time.Millisecond)
			case n >= batchesFast: // until then one is on its way when the fault begins
				pause(running, 500*time.Millisecond)
			}
		}
	}()
	return func() { stop(); <-done }, nil
}

func (b *batcher) append(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	b.mu.Lock()
	stream := fmt.Sprintf("big-%d", len(b.sizes))
	events := make([]event.Event, 300+b.random.IntN(700))
	b.sizes[stream] = len(events)
	b.mu.Unlock()
	op := Op{Client: -1, Kind: Batch, Key: stream, Call: b.history.Now()}
	for i := range events {
		id := fmt.Sprintf("%s-%d", stream, i)
		op.IDs = append(op.IDs, id)
		events[i] = event.Event{ID: id, Type: "fault.big", StreamID: stream, Actor: "agent/batcher",
			Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("z", batchPad))}
	}
	rs, err := c.AppendBatch(ctx, events)
	for _, r := range rs {
		op.Seqs = append(op.Seqs, r.Seq)
	}
	op.Return, op.Outcome = b.history.Now(), outcome(Batch, err)
	if err != nil {
		op.Err = err.Error()
	}
	b.history.Add(op)
	return err
}

// look finds who sees a part of a batch, before the fault is undone: a query that has a part
// in its answer, and whoever has a part of a batch that a query does not see whole. Where no
// query is answered, nothing is known: a host may have ended amid a batch that is stored.
func (b *batcher) look(ctx context.Context) {
	for begun := time.Now(); ; pause(ctx, 50*time.Millisecond) {
		parts := b.partial(nil)
		if len(parts) > 0 && time.Since(begun) < batchGrace && ctx.Err() == nil {
			continue
		}
		stored, ok := b.query(ctx)
		if !ok {
			return
		}
		b.found(b.compare("a query", stored, nil)...)
		if len(parts) > 0 {
			b.found(b.partial(stored)...)
		}
		return
	}
}

func (b *batcher) found(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts = append(b.parts, parts...)
}

// query counts the events of batches, by stream, as whoever comes now does.
func (b *batcher) query(ctx context.Context) (stored map[string]int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, leave, err := b.s.Client(ctx)
	if err != nil {
		return nil, false
	}
	defer leave()
	stored = map[string]int{}
	for e, err := range c.Query(ctx, event.Filter{Types: []string{"fault.big"}}) {
		if err != nil {
			return nil, false
		}
		stored[e.StreamID]++
	}
	return stored, true
}

// partial is what the readers that follow the Log, and the mirrors, have a part of, but for
// the batches that are stored.
func (b *batcher) partial(stored map[string]int) (parts []string) {
	for _, r := range b.readers {
		if len(r.filter.Types) > 0 || r.filter.StreamID != "" {
			continue
		}
		parts = append(parts, b.compare("the subscriber of "+r.name, r.streams("fault.big"), stored)...)
	}
	dirs := map[string]bool{}
	for _, n := range b.s.Nodes {
		if !dirs[n.Dir] {
			dirs[n.Dir] = true
			parts = append(parts, b.compare("the mirror of "+n.Name, mirrored(n.Dir), stored)...)
		}
	}
	return parts
}

func (b *batcher) compare(who string, seen, stored map[string]int) (parts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for stream, n := range seen {
		if want := b.sizes[stream]; n != want && stored[stream] != want {
			parts = append(parts, fmt.Sprintf("%s has %d of the %d events of the batch %s", who, n, want, stream))
		}
	}
	slices.Sort(parts)
	return parts
}

// mirrored counts the lines of batches in the mirror in dir, by stream.
func mirrored(dir string) map[string]int {
	seen := map[string]int{}
	paths, _ := mirror.Files(dir) // none while the disk is away
	for _, path := range paths {
		countBatches(path, seen)
	}
	return seen
}

// countBatches leaves out lines that are torn, which are not there yet.
func countBatches(path string, seen map[string]int) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct {
			Type   string `json:"type"`
			Stream string `json:"stream_id"`
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Type == "fault.big" {
			seen[e.Stream]++
		}
	}
}
