package faults

import (
	"context"
	"sync"
	"time"

	"durablestream/client"
	"durablestream/event"
)

// reader follows the Log while the faults happen, and keeps what it saw.
type reader struct {
	name   string
	filter event.Filter

	mu   sync.Mutex // guards seen and err
	seen []event.Recorded
	err  error // what ended it
}

// follow starts readers: of everything, of a wildcard, and of one stream. They are
// connected when it returns.
func follow(ctx context.Context, s *System) ([]*reader, error) {
	readers := []*reader{
		{name: "all"},
		{name: "a wildcard", filter: event.Filter{Types: []string{"checkpoint.*"}}},
		{name: "one stream", filter: event.Filter{StreamID: "own-0"}},
	}
	for _, r := range readers {
		c, end, err := s.Client(ctx)
		if err != nil {
			return nil, err
		}
		go func() { defer end(); r.run(ctx, c) }()
	}
	return readers, nil
}

func (r *reader) run(ctx context.Context, c *client.Client) {
	err := r.read(ctx, c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reader) read(ctx context.Context, c *client.Client) error {
	for e, err := range c.Subscribe(ctx, r.filter) {
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.seen = append(r.seen, e)
		r.mu.Unlock()
	}
	return nil
}

// check waits until the reader has caught up, and demands that it saw what the Log
// holds, each event once, in order.
func (r *reader) check(ctx context.Context, v *Verdict, log []Stored) {
	var want []event.Recorded
	for _, s := range log {
		if s.Event.ID != "" && r.filter.Match(s.Event) {
			want = append(want, s.Event)
		}
	}
	for ctx.Err() == nil {
		if n, err := r.count(); n >= len(want) || err != nil {
			break
		}
		pause(ctx, 10*time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.seen {
		if i >= len(want) || e.Seq != want[i].Seq || e.ID != want[i].ID {
			v.problem(&v.Subscribers, "event %d that the subscriber of %s saw, %s at %d, is not the log's", i+1, r.name, e.ID, e.Seq)
			return
		}
	}
	if len(r.seen) < len(want) {
		v.problem(&v.Subscribers, "the subscriber of %s saw %d of %d events: %v", r.name, len(r.seen), len(want), r.err)
	}
}

// streams counts the events of a type that the reader saw, by stream.
func (r *reader) streams(typ string) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]int{}
	for _, e := range r.seen {
		if e.Type == typ {
			seen[e.StreamID]++
		}
	}
	return seen
}

func (r *reader) count() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen), r.err
}
