package agents

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// Question is a question of an agent, with its outcome.
type Question struct {
	source.Question
	Instance string // the run of the agent that asked
	Seq      event.Sequence
	// Key is equal for questions about the same exact action, by Source.Action. Empty: the
	// action is not known, and the question is like no other.
	Key string

	Decided bool
	Status  string // "approved", "rejected", "expired" or "cancelled"
	// Over: the agent has its answer, or wants none any more.
	Over bool
	// UsedFor is the question that got the decision.
	UsedFor string
}

// Questions folds the questions of one kind of agent and their answers, in the order of the
// log. It is an index: before acting on an entry, read the checkpoint itself. It forgets
// questions that are over.
type Questions struct {
	agent  source.Agent
	source source.Source
	asked  map[string]*Question
	keys   map[string][]*Question
}

// NewQuestions returns an empty fold. Of src it calls Action and Settled.
func NewQuestions(agent source.Agent, src source.Source) *Questions {
	return &Questions{agent: agent, source: src, asked: map[string]*Question{}, keys: map[string][]*Question{}}
}

// Types are the types of event that Apply looks at, for a query's filter.
func (qs *Questions) Types() []string {
	return append([]string{"checkpoint.*", source.DecisionUsed(qs.agent.Name), event.LifecycleSessionDeleted}, qs.agent.SettledTypes...)
}

// Apply takes one event, and returns the question that it is about; nil for none.
func (qs *Questions) Apply(r event.Recorded) *Question {
	if id := qs.source.Settled(r); id != "" && qs.asked[id] != nil {
		return qs.over(qs.asked[id])
	}
	switch typ := r.Type; {
	case typ == event.CheckpointRequested:
		return qs.request(r)
	case event.IsDecision(typ):
		return qs.decision(r)
	case typ == event.CheckpointCancelRequested:
		var p event.CancelRequested
		if read(r.Payload, &p) && qs.asked[p.CheckpointID] != nil && qs.instance(r) != "" {
			return qs.over(qs.asked[p.CheckpointID]) // by the agent: its session is gone
		}
	case typ == source.DecisionUsed(qs.agent.Name):
		var p source.Used
		if read(r.Payload, &p) && qs.asked[p.Checkpoint] != nil && r.Guard != "" {
			q := qs.asked[p.Checkpoint]
			q.UsedFor = cmp.Or(q.UsedFor, p.GivenTo)
			return q
		}
	case typ == event.LifecycleSessionDeleted:
		for _, id := range slices.Sorted(maps.Keys(qs.asked)) {
			if q := qs.asked[id]; q.Session == r.StreamID {
				qs.over(q)
			}
		}
	}
	return nil
}

func (qs *Questions) request(r event.Recorded) *Question {
	var p event.Checkpoint
	if r.Guard == "" || !read(r.Payload, &p) || qs.asked[p.ID] != nil {
		return nil
	}
	kind, key := qs.source.Action(p.Action)
	if kind == "" || source.Call(qs.agent.Name, r) != "" { // what the model wrote is never a question of the agent's
		return nil
	}
	q := &Question{Question: source.Question{ID: p.ID, Kind: kind, Session: r.StreamID}, Instance: qs.instance(r), Seq: r.Seq, Key: key}
	qs.asked[q.ID] = q
	if key != "" {
		qs.keys[key] = append(qs.keys[key], q)
	}
	return q
}

// decision takes a decision that stands behind its guard. One that came from the agent
// ends the question; one that was carried over from the same question before does not.
func (qs *Questions) decision(r event.Recorded) *Question {
	var p struct {
		ID string `json:"checkpoint_id"`
	}
	if r.Guard == "" || !read(r.Payload, &p) || qs.asked[p.ID] == nil {
		return nil
	}
	var m struct {
		Carried string `json:"carried_from"`
	}
	read(r.Metadata, &m)
	q := qs.asked[p.ID]
	q.Decided, q.Status = true, strings.TrimPrefix(r.Type, "checkpoint.")
	if qs.instance(r) != "" && m.Carried == "" {
		qs.over(q)
	}
	return q
}

func (qs *Questions) over(q *Question) *Question {
	q.Over = true
	qs.forget(q)
	for _, p := range qs.keys[q.Key] {
		if p.UsedFor == q.ID {
			p.Over = true
			qs.forget(p)
		}
	}
	return q
}

func (qs *Questions) forget(q *Question) {
	delete(qs.asked, q.ID)
	rest := slices.DeleteFunc(slices.Clone(qs.keys[q.Key]), func(p *Question) bool { return p == q })
	if len(rest) == 0 {
		delete(qs.keys, q.Key)
	} else {
		qs.keys[q.Key] = rest
	}
}

// All are the questions that are not over, in the order in which they were asked.
func (qs *Questions) All() []*Question {
	var out []*Question
	for _, q := range qs.asked {
		out = append(out, q)
	}
	slices.SortFunc(out, func(p, q *Question) int { return cmp.Compare(p.Seq, q.Seq) })
	return out
}

// Same are the questions about the same exact action that are not over, without q itself,
// in the order in which they were asked.
func (qs *Questions) Same(q *Question) []*Question {
	if q.Key == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(qs.keys[q.Key]), func(p *Question) bool { return p == q })
}

// SameAction reports whether two requests of the agent, as the actions of their
// checkpoints hold them, are about the same exact action.
func (qs *Questions) SameAction(a, b json.RawMessage) bool {
	_, k := qs.source.Action(a)
	_, l := qs.source.Action(b)
	return k != "" && k == l
}

func (qs *Questions) instance(r event.Recorded) string { return source.Instance(qs.agent.Name, r) }

// read decodes into v and reports whether b had that shape.
func read(b json.RawMessage, v any) bool { return json.Unmarshal(b, v) == nil }
