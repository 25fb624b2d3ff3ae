package measure

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/wire"
)

// A filled log of n events holds, evenly spread: streams of StreamEvents events each,
// in one of these an actor, a correlation and a type of their own (Rare…), and Matter
// events of checkpoints and intents behind their guards, of which Open of each kind
// have not ended.
const (
	StreamEvents = 1000
	Matter       = 2000
	Open         = 10

	RareType        = "review.noted"
	RareActor       = "agent/reviewer"
	RareCorrelation = "run_review"

	// FirstTimestamp and Spacing are of the filled events, in Unix milliseconds.
	FirstTimestamp = 1_760_000_000_000
	Spacing        = 10
)

// fillBatch is as many messages as our broker takes in one batch.
const fillBatch = 10_000

// RareStream is the stream of the events of RareType in a filled log.
const RareStream = "ses_7"

// Fill stores n events, at least 10,000, as fast as the engine takes them. What it
// stores is not in the engine's memory of ids, as in a log that has grown over days.
func Fill(ctx context.Context, b *Bare, n int) error {
	var batch []*nats.Msg
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := b.Store(ctx, batch)
		batch = batch[:0]
		return err
	}
	matter := matters()
	every := n / len(matter)
	for i := range n {
		e := Plain(i, n)
		if i%every == 0 && i/every < len(matter) {
			m := matter[i/every]
			e.Type, e.Payload, e.StreamID = m.Type, m.Payload, "ses_matter"
		}
		r := event.Recorded{Event: e}
		if subject, body, ok := wire.Protected(e); ok {
			r.Guard = subject
			batch = append(batch, wire.EncodeGuard(subject, body.Encode()))
		}
		m := wire.Encode(r)
		m.Header["X"+wire.HeaderID[1:]] = m.Header[wire.HeaderID]
		delete(m.Header, wire.HeaderID)
		batch = append(batch, m)
		if len(batch) >= fillBatch-1 { // a guard and its event go together
			if err := flush(); err != nil {
				return fmt.Errorf("measure: fill the log: %w", err)
			}
		}
	}
	return flush()
}

// Plain is event i of n: of a tool that was used.
func Plain(i, n int) event.Event {
	e := Event()
	of := i % (n / StreamEvents)
	e.ID = event.NewID()
	e.StreamID = fmt.Sprintf("ses_%d", of)
	e.Actor = fmt.Sprintf("agent/worker-%d", i%50)
	e.CorrelationID = fmt.Sprintf("run_%d", i/500)
	e.Timestamp = time.UnixMilli(FirstTimestamp + int64(i)*Spacing)
	if e.StreamID == RareStream {
		e.Type, e.Actor, e.CorrelationID = RareType, RareActor, RareCorrelation
	}
	return e
}

// matters are the events that a resume must read.
func matters() []event.Event {
	of := func(typ, format string, i int) event.Event {
		return event.Event{Type: typ, Payload: fmt.Appendf(nil, format, i)}
	}
	const each = Matter / 4
	var out []event.Event
	for i := range each + Open/2 {
		out = append(out,
			of(event.CheckpointRequested, `{"id":"cp_%d","decision_point":"Deploy?","options":[],"requested_by":"agent/worker"}`, i),
			of(event.AgentSpawned, `{"id":"intent_%d"}`, i))
		if i >= Open {
			out = append(out,
				of(event.CheckpointApproved, `{"checkpoint_id":"cp_%d","approved_by":"alice"}`, i),
				of(event.AgentCompleted, `{"intent_id":"intent_%d"}`, i))
		}
	}
	return out
}
