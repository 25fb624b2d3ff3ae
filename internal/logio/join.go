package logio

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
)

// joins stores appends that wait at the same time together, in one atomic batch: one
// fsync for all. A batch costs some 7 ms of the engine's time however small it is, and
// holds up everybody else, so appends join only where so many wait that each would
// wait longer in turn.
//
// Safety: a batch is a first try of each of its members, under its own id. Where the
// engine refuses the batch nothing of it is stored, and each goes its own way at once,
// so that one that is refused spoils no other; where there is no answer each goes its
// own way as after any try without one.
//
// Liveness: nobody waits in line for more than joinLinger and the batch that is under
// way, which has a time of its own, and none who waits no longer holds up others.
type joins struct {
	waiting atomic.Int64 // appends that wait for their answer

	mu      sync.Mutex // guards what follows, but for more
	line    []*joining
	bytes   int
	running bool
	more    chan struct{} // somebody has come
}

func newJoins() *joins { return &joins{more: make(chan struct{}, 1)} }

type joining struct {
	msg  *nats.Msg
	done chan struct{}
	ack  *jetstream.PubAck
	err  error
}

const (
	// joinFrom is how many appends wait where others begin to join.
	joinFrom = 256
	// joinLeast is how many make a batch worth its while.
	joinLeast  = 128
	joinLinger = 3 * time.Millisecond
	joinBytes  = 8 << 20
)

// errAlone says that a try was not made, or was refused with others.
var errAlone = errors.New("to be published by itself")

// tryJoined tries once to store m with others, or says errAlone.
func (l *Log) tryJoined(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	if l.joins.waiting.Load() < joinFrom || l.clustered {
		return nil, errAlone
	}
	j := &joining{msg: m, done: make(chan struct{})}
	s := l.joins
	s.mu.Lock()
	s.line = append(s.line, j)
	s.bytes += len(m.Data)
	if !s.running {
		s.running = true
		go l.join()
	}
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	select {
	case <-j.done:
		return j.ack, j.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join stores batch after batch until nobody waits in line.
func (l *Log) join() {
	s := l.joins
	for {
		s.linger()
		all := s.take()
		if len(all) == 0 {
			return
		}
		err := errAlone
		if len(all) >= joinLeast {
			err = l.storeJoined(all)
		}
		for _, j := range all {
			j.err = err
			if j.ack != nil {
				j.err = nil
			}
			close(j.done)
		}
	}
}

// linger waits for those who are on their way: who was just answered appends again.
func (s *joins) linger() {
	t := time.NewTimer(joinLinger)
	defer t.Stop()
	for {
		s.mu.Lock()
		n, bytes := len(s.line), s.bytes
		s.mu.Unlock()
		if n >= event.MaxBatchLen || bytes >= joinBytes || n >= int(s.waiting.Load()) {
			return
		}
		select {
		case <-t.C:
			return
		case <-s.more:
		}
	}
}

// take takes the next batch out of the line. Where there is none the line is closed.
func (s *joins) take() []*joining {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := 0, 0
	for n < len(s.line) && n < event.MaxBatchLen && bytes < joinBytes {
		bytes += len(s.line[n].msg.Data)
		n++
	}
	all := s.line[:n:n]
	if s.line, s.bytes = s.line[n:], s.bytes-bytes; len(s.line) == 0 {
		s.line = nil
	}
	s.running = n > 0
	return all
}

// storeJoined stores one batch and gives each its ack.
func (l *Log) storeJoined(all []*joining) error {
	b := make(Batch, len(all))
	for i, j := range all {
		b[i].msg = j.msg
	}
	ack, err := l.tryBatch(context.Background(), b)
	if err != nil {
		if v, _ := judge(err); v != unsure {
			return errAlone
		}
		return err
	}
	first := ack.Sequence - uint64(len(all)) + 1
	for i, j := range all {
		j.ack = &jetstream.PubAck{Stream: ack.Stream, Sequence: first + uint64(i)}
	}
	return nil
}
