package logio

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// scan finds out how far the server that feeds a consumer has looked.
//
// On a cluster a consumer lives on one of the replicas, which may lag: that it has
// nothing more to bring says nothing about the events that it has not got yet. A
// bounded feed therefore ends on the replica's own word for how far it has looked.
// That word is the idle heartbeat of a pull request: it says up to where the
// consumer has gone through the store (Nats-Last-Stream), and how many messages it
// has sent by then (Nats-Last-Consumer). The scan is one more request beside that
// of the feed, of which the heartbeats are a fraction of a millisecond apart and
// which has no room for a message, so that all of them go to the feed.
//
// Safety: the replica's store holds the Log from its beginning without gaps, so one
// that was gone through up to Until holds everything up to there, and what of it
// matched was sent; the feed ends only when it has taken as many messages as were
// sent. Everything up to Until was committed before: Until is a Sequence that the
// Log's leader, an acknowledgement or a message has named.
//
// Liveness: the engine looks again before each heartbeat, so a replica that catches
// up says so. One that does not within scanPatience is left, and the feed goes on
// with a consumer on a replica chosen anew.
type scan struct {
	log   *Log
	next  string // the subject of the pull request
	inbox *nats.Subscription
	heard chan *nats.Msg
	every time.Duration // between the heartbeats of the present request
	until time.Time     // when the replica is given up
}

const (
	scanFirst    = 100 * time.Microsecond
	scanMost     = 5 * time.Millisecond
	scanLength   = 20 // heartbeats a request
	scanPatience = time.Second
)

func (l *Log) scan(cons jetstream.Consumer) (*scan, error) {
	s := &scan{
		log: l, next: wire.NextSubject(l.js.Options().APIPrefix, cons.CachedInfo().Name),
		heard: make(chan *nats.Msg, 4*scanLength), every: scanFirst, until: time.Now().Add(scanPatience),
	}
	var err error
	if s.inbox, err = l.nc.ChanSubscribe(l.nc.NewInbox(), s.heard); err != nil {
		return nil, err
	}
	return s, s.ask()
}

// ask sends one pull request, which ends by itself.
func (s *scan) ask() error {
	m := nats.NewMsg(s.next)
	m.Reply = s.inbox.Subject
	m.Data = fmt.Appendf(nil, `{"batch":1,"max_bytes":1,"expires":%d,"idle_heartbeat":%d}`, scanLength*s.every, s.every)
	return s.log.nc.PublishMsg(m)
}

// take reads one answer: the consumer has gone through the store up to at, and sent
// so many messages. Others end the request, for its time or for a message that was
// sent to the feed, and there is a next one.
func (s *scan) take(m *nats.Msg) (at event.Sequence, sent uint64, err error) {
	switch status := m.Header.Get(wire.HeaderStatus); status {
	case wire.StatusHeartbeat:
		seq, err1 := strconv.ParseUint(m.Header.Get(wire.HeaderLastStream), 10, 64)
		sent, err2 := strconv.ParseUint(m.Header.Get(wire.HeaderLastConsumer), 10, 64)
		if err1 != nil || err2 != nil {
			return 0, 0, fmt.Errorf("a heartbeat that does not say where the consumer is: %v", m.Header)
		}
		return event.Sequence(seq), sent, nil
	case wire.StatusExpired, wire.StatusConflict:
	default:
		return 0, 0, fmt.Errorf("the consumer does not say where it is (status %q)", status)
	}
	if time.Now().After(s.until) {
		return 0, 0, fmt.Errorf("the replica that feeds this reader lags by more than %s", scanPatience)
	}
	s.every = min(2*s.every, scanMost)
	return 0, 0, s.ask()
}

// answers is nil, which never has any, for a scan that was not begun.
func (s *scan) answers() <-chan *nats.Msg {
	if s == nil {
		return nil
	}
	return s.heard
}

func (s *scan) end() { _ = s.inbox.Unsubscribe() } // fails on a closed connection, where there is nothing to end

// position is the last settled Sequence of the Log (see settled), and on a cluster at least what this
// client has appended or read: an answer below that is of a leader that has been
// replaced and does not know it yet, and is asked for again.
func (l *Log) position(ctx context.Context) (event.Sequence, error) {
	var wait backoff
	for {
		known := event.Sequence(l.known.Load())
		info, err := l.Info(ctx)
		if err != nil {
			return 0, err
		}
		last := event.Sequence(info.State.LastSeq)
		if last >= known || !l.clustered || !info.Created.Equal(l.created) {
			return l.boundary(ctx, last)
		}
		if !wait.sleep(ctx) {
			return 0, fmt.Errorf("the leader of the Log answers with sequence %s, and this client has seen %s: it is cut off from the other nodes, or the cluster has lost events: %w",
				last, known, ctx.Err())
		}
	}
}
