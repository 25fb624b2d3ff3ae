package rpc

import (
	"context"
	"sync"
)

// queue holds lines between one goroutine that must not wait and another that may.
type queue struct {
	mu      sync.Mutex // guards all below
	lines   [][]byte
	bytes   int
	ended   bool
	dropped bool
	changed chan struct{} // closed and replaced at every change
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

// put adds a line and never waits. After end or drop it is forgotten.
func (q *queue) put(line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.dropped {
		return
	}
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	q.tell()
}

// take waits for the next line. It gives none when the queue has ended and is empty,
// or when ctx ends first.
func (q *queue) take(ctx context.Context) ([]byte, bool) {
	for {
		q.mu.Lock()
		if len(q.lines) > 0 {
			line := q.lines[0]
			q.lines[0] = nil
			q.lines = q.lines[1:]
			q.bytes -= len(line)
			q.tell()
			q.mu.Unlock()
			return line, true
		}
		ended, changed := q.ended, q.changed
		q.mu.Unlock()
		if ended {
			return nil, false
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-changed:
		}
	}
}

// room waits until fewer than limit bytes are queued. It gives false when ctx ends, or
// nobody will ever take a line again.
func (q *queue) room(ctx context.Context, limit int) bool {
	for {
		q.mu.Lock()
		free, gone, changed := q.bytes < limit, q.ended || q.dropped, q.changed
		q.mu.Unlock()
		if gone {
			return false
		}
		if free {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// full reports whether limit bytes or more are queued.
func (q *queue) full(limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes >= limit
}

// end lets take give what is there, and then nothing.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.tell()
}

// drop forgets what is there and all that comes.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped, q.lines, q.bytes = true, nil, 0
	q.tell()
}

func (q *queue) tell() {
	close(q.changed)
	q.changed = make(chan struct{})
}
