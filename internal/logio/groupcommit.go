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

// groupCommit stores appends that wait at the same time in one atomic batch: one fsync
// for all of them. A batch costs the engine about 7 ms however small it is, and holds up
// all other writers. So appends are grouped only if so many wait that each would wait
// longer in turn.
//
// Safety: a batch is the first attempt of each of its members, under the member's own id.
// If the engine refuses the batch, it stores nothing of it, and each member is published
// by itself, so that one refused member does not affect the others. If there is no
// answer, each member continues as after any attempt without an answer.
//
// Liveness: a member waits in the queue for at most groupLinger and the batch in
// progress, which has a timeout of its own. A member whose context ends does not delay
// the others.
type groupCommit struct {
	waiting atomic.Int64 // appends that wait for their answer

	mu      sync.Mutex // guards the fields below, except more
	queue   []*member
	bytes   int
	running bool
	more    chan struct{} // signals that a member has entered the queue
}

func newGroupCommit() *groupCommit { return &groupCommit{more: make(chan struct{}, 1)} }

// member is one append of a group.
type member struct {
	msg  *nats.Msg
	done chan struct{}
	ack  *jetstream.PubAck
	err  error
}

const (
	// groupFrom is the number of waiting appends from which the next ones are grouped.
	groupFrom = 256
	// groupLeast is the smallest group that is worth the cost of a batch.
	groupLeast  = 128
	groupLinger = 3 * time.Millisecond
	groupBytes  = 8 << 20 // the most payload of a group
)

// errAlone means that an append was not attempted in a group, or that its group was
// refused.
var errAlone = errors.New("to be published by itself")

// tryGrouped makes one attempt to store m in a group. It returns errAlone if m is to be
// published by itself.
func (l *Log) tryGrouped(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	if l.group.waiting.Load() < groupFrom || l.clustered {
		return nil, errAlone
	}
	one := &member{msg: m, done: make(chan struct{})}
	g := l.group
	g.mu.Lock()
	g.queue = append(g.queue, one)
	g.bytes += len(m.Data)
	if !g.running {
		g.running = true
		go l.commitGroups()
	}
	g.mu.Unlock()
	select {
	case g.more <- struct{}{}:
	default:
	}
	select {
	case <-one.done:
		return one.ack, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// commitGroups stores one group after another until the queue is empty.
func (l *Log) commitGroups() {
	g := l.group
	for {
		g.linger()
		all := g.take()
		if len(all) == 0 {
			return
		}
		err := errAlone
		if len(all) >= groupLeast {
			err = l.storeGroup(all)
		}
		for _, one := range all {
			one.err = err
			if one.ack != nil {
				one.err = nil
			}
			close(one.done)
		}
	}
}

// linger waits a moment for more members: a caller that just got its answer appends
// again.
func (g *groupCommit) linger() {
	t := time.NewTimer(groupLinger)
	defer t.Stop()
	for {
		g.mu.Lock()
		n, bytes := len(g.queue), g.bytes
		g.mu.Unlock()
		if n >= event.MaxBatchLen || bytes >= groupBytes || n >= int(g.waiting.Load()) {
			return
		}
		select {
		case <-t.C:
			return
		case <-g.more:
		}
	}
}

// take removes the next group from the queue. If the queue is empty, commitGroups ends.
func (g *groupCommit) take() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, bytes := 0, 0
	for n < len(g.queue) && n < event.MaxBatchLen && bytes < groupBytes {
		bytes += len(g.queue[n].msg.Data)
		n++
	}
	all := g.queue[:n:n]
	if g.queue, g.bytes = g.queue[n:], g.bytes-bytes; len(g.queue) == 0 {
		g.queue = nil
	}
	g.running = n > 0
	return all
}

// storeGroup stores one group and gives each member its acknowledgement.
func (l *Log) storeGroup(all []*member) error {
	b := make(Batch, len(all))
	for i, one := range all {
		b[i].msg = one.msg
	}
	ack, err := l.tryBatch(context.Background(), b)
	if err != nil {
		if v, _ := judge(err); v != unsure {
			return errAlone
		}
		return err
	}
	first := ack.Sequence - uint64(len(all)) + 1
	for i, one := range all {
		one.ack = &jetstream.PubAck{Stream: ack.Stream, Sequence: first + uint64(i)}
	}
	return nil
}
