package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// Handler is a function that is called for events as they are recorded.
type Handler struct {
	cancel context.CancelFunc
	done   chan struct{}
	c      *Client
	filter event.Filter
	seq    atomic.Uint64
	panics atomic.Uint64

	mu  sync.Mutex // guards err
	err error
}

// On calls f for each event recorded from now on whose type matches pattern, in order,
// one at a time. Each handler reads the Log for itself: a slow handler does not delay
// others, and a handler that panics continues with the next event. Off ends it.
func (c *Client) On(ctx context.Context, pattern string, f func(event.Recorded)) (*Handler, error) {
	filter := event.Filter{Types: []string{pattern}}
	if err := filter.Validate(); err != nil {
		return nil, fmt.Errorf("client: on: %w", err)
	}
	after, err := c.log.Position(ctx)
	if err != nil {
		return nil, err
	}
	filter.After = after
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &Handler{c: c, filter: filter, cancel: cancel, done: make(chan struct{})}
	h.seq.Store(uint64(after))
	c.handlers.Store(h, cancel)
	go func() {
		defer close(h.done)
		defer c.handlers.Delete(h)
		for m, err := range c.log.Feed(run, logio.FeedConfig{Subjects: wire.FilterSubjects(filter), After: after}) {
			if err != nil {
				if run.Err() == nil { // not by Off
					h.fail(err)
				}
				return
			}
			if e, ok := c.entry(m); ok && filter.Match(*e.Event) {
				h.call(c, f, *e.Event)
			}
			h.seq.Store(uint64(m.Seq))
		}
	}()
	return h, nil
}

func (h *Handler) call(c *Client, f func(event.Recorded), r event.Recorded) {
	defer func() {
		if p := recover(); p != nil {
			h.panics.Add(1)
			c.cfg.Logger.Error("a handler panicked", "seq", r.Seq, "err", fmt.Sprint(p))
		}
	}()
	f(r)
}

func (h *Handler) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// Off ends the handler: no new call begins, though a call may be in progress. The handler
// itself may call Off, and any number of times.
func (h *Handler) Off() { h.cancel() }

// Done is closed when the handler has ended.
func (h *Handler) Done() <-chan struct{} { return h.done }

// Behind is the number of matching events that are recorded and not yet handled,
// including the one that is being handled. It asks the engine.
func (h *Handler) Behind(ctx context.Context) (uint64, error) {
	return h.c.log.CountAfter(ctx, wire.FilterSubjects(h.filter), h.Seq())
}

// Seq is the last Sequence that was handled.
func (h *Handler) Seq() event.Sequence { return event.Sequence(h.seq.Load()) }

// Panics is the number of calls that have panicked.
func (h *Handler) Panics() uint64 { return h.panics.Load() }

// Err is the reason why the handler ended by itself; nil while it runs and after Off.
func (h *Handler) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
