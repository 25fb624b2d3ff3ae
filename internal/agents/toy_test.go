package agents_test

import (
	"encoding/json"
	"time"

	"durablestream/event"
	"durablestream/internal/agents/source"
	"durablestream/projection"
)

// toy is an agent that is not OpenCode. Its feed says what it does:
// {"id":…,"do":"say","text":…}, or "begin" for a text that is stored with the next tick,
// or "ask" with an action.
func toyAgent() source.Agent {
	return source.Agent{
		Name: "toy", Title: "the Toy",
		New:      func(cfg source.Config) source.Source { return &toy{instance: cfg.Instance, seen: map[string]bool{}} },
		RunTypes: []string{"toy.>"},
	}
}

type toy struct {
	instance string
	seen     map[string]bool // in the log, by an earlier process
	clock    int64
	waiting  []source.Item
	tickets  []int64
}

type toyEvent struct {
	ID     string          `json:"id"`
	Do     string          `json:"do"`
	Text   string          `json:"text"`
	Action json.RawMessage `json:"action,omitempty"`
}

func (y *toy) Seed(r event.Recorded) { y.seen[r.ID] = true }

func (y *toy) event(e toyEvent, typ string, payload any) event.Event {
	p, _ := event.Marshal(payload)
	m, _ := event.Marshal(source.Marked("toy", y.instance))
	return event.Event{ID: e.ID, Type: typ, StreamID: "ses_toy", Actor: "agent/toy", Payload: p, Metadata: m}
}

func (y *toy) Take(raw json.RawMessage, now time.Time) source.Step {
	var e toyEvent
	if json.Unmarshal(raw, &e) != nil {
		return source.Step{}
	}
	y.clock++
	said := y.event(e, "toy.said", map[string]string{"text": e.Text})
	item := source.Item{Event: said, Stored: y.seen[e.ID]}
	switch e.Do {
	case "begin":
		y.waiting, y.tickets = append(y.waiting, item), append(y.tickets, y.clock)
		return source.Step{Ticket: y.clock, Due: now.Add(time.Millisecond)}
	case "ask":
		item = source.Item{Kind: source.Ask, Checkpoint: e.ID, Else: &said, Event: y.event(toyEvent{ID: e.ID + ".asked"}, event.CheckpointRequested, event.Checkpoint{
			ID: e.ID, DecisionPoint: e.Text, RequestedBy: "agent/toy", Action: e.Action,
			Options: []event.Option{{ID: "yes", Label: "Yes"}},
		})}
	}
	return source.Step{Items: []source.Item{item}}
}

func (y *toy) Tick(time.Time) source.Step {
	s := source.Step{Items: y.waiting, Released: y.tickets}
	y.waiting, y.tickets = nil, nil
	return s
}

func (y *toy) Flush(now time.Time) source.Step { return y.Tick(now) }

func (*toy) Action(action json.RawMessage) (kind, key string) {
	var a struct{ Toy string }
	if json.Unmarshal(action, &a) != nil || a.Toy == "" {
		return "", ""
	}
	return "wish", a.Toy
}

func (*toy) Settled(event.Recorded) string { return "" }

func (*toy) Answer(q source.Question, cp projection.Checkpoint) any {
	return map[string]string{"wish": q.ID, "kind": q.Kind, "granted": string(cp.Decision.Status)}
}
