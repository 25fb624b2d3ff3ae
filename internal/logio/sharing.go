package logio

import (
	"context"
	"sync"
)

// sharing lets callers with the same request at the same time share an answer: one
// request may be on its way, and one waits for it to end. A new caller joins the waiting
// one, since the other may have been answered before the caller asked.
//
// The first of the callers that share a request makes it, under its own context. If that
// ends, the others make a new one. Each failure removes a caller that has gone, so the
// last one gets its turn.
type sharing[T any] struct {
	way chan struct{} // holds one token while a request is on its way

	mu   sync.Mutex // guards next
	next *turn[T]   // the waiting request; nil: none
}

type turn[T any] struct {
	done   chan struct{} // closed when answer and err are set
	answer T
	err    error
	gone   bool // err is only the end of the first caller's context
}

func newSharing[T any]() *sharing[T] { return &sharing[T]{way: make(chan struct{}, 1)} }

// pass takes part in one request; again means that the caller that made it has gone.
func (s *sharing[T]) pass(ctx context.Context, request func(context.Context) (T, error)) (_ T, err error, again bool) {
	var none T
	s.mu.Lock()
	t := s.next
	if t != nil {
		s.mu.Unlock()
		select {
		case <-t.done:
			return t.answer, t.err, t.gone && ctx.Err() == nil
		case <-ctx.Done():
			return none, ctx.Err(), false
		}
	}
	t = &turn[T]{done: make(chan struct{})}
	s.next = t
	s.mu.Unlock()

	begin := func() { // from now on, no caller may join
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
	}
	defer close(t.done)
	select {
	case s.way <- struct{}{}:
		defer func() { <-s.way }()
		begin()
		t.answer, t.err = request(ctx)
	case <-ctx.Done():
		begin()
		t.err = ctx.Err()
	}
	t.gone = t.err != nil && ctx.Err() != nil
	return t.answer, t.err, false
}
