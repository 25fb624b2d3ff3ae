package logio

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// progress is how far the server that feeds a consumer has gone through its store.
//
// On a cluster a consumer lives on one of the replicas, which may lag: a replica that has
// nothing more to send may not have received later events yet. A bounded feed therefore
// ends by the replica's own report of its position, in the idle heartbeats of a pull
// request. They carry how far the consumer has gone through the store (Nats-Last-Stream),
// and how many messages it has sent by then (Nats-Last-Consumer). So progress makes one
// more pull request beside that of the feed. Its heartbeats are a fraction of a
// millisecond apart, and it has no room for a message, so that all messages go to the
// feed.
//
// Safety: the replica's store holds the Log from its beginning without gaps. A replica
// that has gone through its store up to Until holds everything up to there, and has sent
// the matching messages. The feed ends only when it has taken as many messages as were
// sent. Everything up to Until was committed before: the Log's leader, an acknowledgement
// or a message has named Until.
//
// Liveness: the engine reads its store again before each heartbeat, so a replica that
// catches up reports it. The feed leaves a replica that does not catch up within
// progressPatience, and continues with a consumer on another replica.
type progress struct {
	log   *Log
	next  string // the subject of the pull request
	inbox *nats.Subscription
	heard chan *nats.Msg
	every time.Duration // between the heartbeats of the present request
	until time.Time     // when the feed leaves the replica
}

const (
	progressFirst    = 100 * time.Microsecond
	progressMost     = 5 * time.Millisecond
	progressLength   = 20 // heartbeats a request
	progressPatience = time.Second
)

func (l *Log) watchProgress(cons jetstream.Consumer) (*progress, error) {
	p := &progress{
		log: l, next: wire.NextSubject(l.js.Options().APIPrefix, cons.CachedInfo().Name),
		heard: make(chan *nats.Msg, 4*progressLength), every: progressFirst, until: time.Now().Add(progressPatience),
	}
	var err error
	if p.inbox, err = l.nc.ChanSubscribe(l.nc.NewInbox(), p.heard); err != nil {
		return nil, err
	}
	return p, p.ask()
}

// ask sends one pull request, which ends by itself.
func (p *progress) ask() error {
	m := nats.NewMsg(p.next)
	m.Reply = p.inbox.Subject
	m.Data = fmt.Appendf(nil, `{"batch":1,"max_bytes":1,"expires":%d,"idle_heartbeat":%d}`, progressLength*p.every, p.every)
	return p.log.nc.PublishMsg(m)
}

// take reads one answer: the position up to which the consumer has gone through the
// store, and the number of messages that it has sent. Other answers end the request, for
// its time or for a message that was sent to the feed; then a new request follows.
func (p *progress) take(m *nats.Msg) (at event.Sequence, sent uint64, err error) {
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
	if time.Now().After(p.until) {
		return 0, 0, fmt.Errorf("the replica that feeds this reader lags by more than %s", progressPatience)
	}
	p.every = min(2*p.every, progressMost)
	return 0, 0, p.ask()
}

// answers is nil, which never delivers, for a progress that has not begun.
func (p *progress) answers() <-chan *nats.Msg {
	if p == nil {
		return nil
	}
	return p.heard
}

func (p *progress) end() { _ = p.inbox.Unsubscribe() } // fails on a closed connection, where there is nothing to end
