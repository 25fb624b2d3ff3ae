package measure

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Payload makes events whose stored body has some 400 bytes.
var Payload = []byte(`{"tool":"edit","path":"internal/wire/subject.go","lines":[12,48],"text":"` + strings.Repeat("durable ", 12) + `"}`)

// Event is an event like most in a log of coding agents.
func Event() event.Event {
	return event.Event{Type: "execution.tool_finish", StreamID: "ses_1", Actor: "agent/worker", Payload: Payload}
}

// Bare is the neighbour that tells what the engine itself can do: nats.go without our
// client, on the same broker and into the same Log. Its messages are composed before
// they are measured, but for their ids.
type Bare struct {
	JS jetstream.JetStream

	nc   *nats.Conn
	like *nats.Msg
	next atomic.Uint64
	run  string
}

// NewBare makes one over a connection, which its maker closes.
func NewBare(nc *nats.Conn) (*Bare, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	e := Event()
	e.ID, e.CorrelationID, e.Timestamp = event.NewID(), event.NewID(), event.Now()
	return &Bare{JS: js, nc: nc, like: wire.Encode(event.Recorded{Event: e}), run: event.NewID()[:23]}, nil
}

// message is one more message, with an id of its own.
func (b *Bare) message() *nats.Msg {
	m := &nats.Msg{Subject: b.like.Subject, Data: b.like.Data, Header: nats.Header{}}
	for name, v := range b.like.Header {
		m.Header[name] = v
	}
	m.Header[wire.HeaderID] = []string{fmt.Sprintf("%s-%012x", b.run, b.next.Add(1))}
	return m
}

// Append publishes one message and waits for its answer.
func (b *Bare) Append(ctx context.Context) error {
	_, err := b.JS.PublishMsg(ctx, b.message())
	return err
}

// Batch publishes n messages in one atomic batch.
func (b *Bare) Batch(ctx context.Context, n int) error {
	all := make([]*nats.Msg, n)
	for i := range all {
		all[i] = b.message()
	}
	return b.Store(ctx, all)
}

// Store publishes messages in one atomic batch, whatever they are.
func (b *Bare) Store(ctx context.Context, all []*nats.Msg) error {
	id := rand.Text()
	for i, m := range all {
		m.Header[wire.HeaderBatchID] = []string{id}
		m.Header[wire.HeaderBatchSequence] = []string{strconv.Itoa(i + 1)}
		switch {
		case i == len(all)-1:
			m.Header[wire.HeaderBatchCommit] = []string{"1"}
			_, err := b.JS.PublishMsg(ctx, m)
			return err
		case i == 0:
			answer, err := b.nc.RequestMsgWithContext(ctx, m)
			if err != nil {
				return err
			}
			if len(answer.Data) > 0 {
				return fmt.Errorf("measure: a batch was refused: %s", answer.Data)
			}
		default:
			if err := b.nc.PublishMsg(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read reads n messages of the Log with the engine's own ordered consumer.
func (b *Bare) Read(ctx context.Context, subjects []string, n int) error {
	cons, err := b.JS.OrderedConsumer(ctx, wire.LogName, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	if err != nil {
		return err
	}
	msgs, err := cons.Messages()
	if err != nil {
		return err
	}
	defer func() {
		msgs.Stop()
		// Or it stays on the server for minutes, and the next measurement pays for it.
		if info := cons.CachedInfo(); info != nil {
			_ = b.JS.DeleteConsumer(ctx, wire.LogName, info.Name)
		}
	}()
	for range n {
		if _, err := msgs.Next(); err != nil {
			return err
		}
	}
	return nil
}
