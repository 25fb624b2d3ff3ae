package opencode

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"durablestream/event"
)

// DecisionUsed is the type of the event that says to which question of OpenCode a
// decision was given. It stands behind a guard of the decided checkpoint's own, so a
// decision is given to one question, once.
const DecisionUsed = prefix + "decision.used"

// Used is its payload.
type Used struct {
	Checkpoint string `json:"checkpoint_id"` // that was decided
	GivenTo    string `json:"given_to"`      // the question of OpenCode that got the answer: the same, or the same asked again
	Status     string `json:"status"`        // "approved" or "rejected"
	DecidedBy  string `json:"decided_by"`
}

// Asked is a question of OpenCode, and what became of it.
type Asked struct {
	ID       string
	Kind     string // "permission" or "question"
	Session  string
	Instance string // the run of OpenCode that asked
	Seq      event.Sequence
	// Key tells questions about the same exact action: of the same session, with the
	// same permission, patterns and metadata, or the same questions with the same
	// options. Empty: it cannot be told, and is like no other.
	Key string

	Decided bool
	Status  string // "approved", "rejected", "expired" or "cancelled"
	// Over: OpenCode has its answer, or wants none any more.
	Over bool
	// UsedFor is the question that got the decision.
	UsedFor string
}

// Answers folds the questions of OpenCode and what was answered, in the order of the
// log. The zero value is ready. It is an index: who acts on it reads the checkpoint
// itself. It forgets questions that are over.
type Answers struct {
	asked map[string]*Asked
	keys  map[string][]*Asked
}

// Types are the types of event that Apply looks at, for a query's filter.
func (*Answers) Types() []string {
	return []string{"checkpoint.*", prefix + "permission.*", prefix + "question.*", DecisionUsed, event.LifecycleSessionDeleted}
}

// Apply takes one event, and returns the question that it is about; nil for none.
func (a *Answers) Apply(r event.Recorded) *Asked {
	if a.asked == nil {
		a.asked, a.keys = map[string]*Asked{}, map[string][]*Asked{}
	}
	switch r.Type {
	case event.CheckpointRequested:
		return a.request(r)
	case event.CheckpointApproved, event.CheckpointRejected, event.CheckpointExpired, event.CheckpointCancelled:
		return a.decision(r)
	case event.CheckpointCancelRequested:
		var p event.CancelRequested
		if read(r.Payload, &p) && a.asked[p.CheckpointID] != nil && instance(r) != "" {
			return a.over(a.asked[p.CheckpointID]) // by OpenCode: its session is gone
		}
	case prefix + "permission.replied", prefix + "question.replied", prefix + "question.rejected":
		var p reply
		if read(r.Payload, &p) && a.asked[p.RequestID] != nil {
			return a.over(a.asked[p.RequestID])
		}
	case DecisionUsed:
		var p Used
		if read(r.Payload, &p) && a.asked[p.Checkpoint] != nil && r.Guard != "" {
			q := a.asked[p.Checkpoint]
			q.UsedFor = cmp.Or(q.UsedFor, p.GivenTo)
			return q
		}
	case event.LifecycleSessionDeleted:
		for _, id := range sortedKeys(a.asked) {
			if q := a.asked[id]; q.Session == r.StreamID {
				a.over(q)
			}
		}
	}
	return nil
}

func (a *Answers) request(r event.Recorded) *Asked {
	var p event.Checkpoint
	if r.Guard == "" || !read(r.Payload, &p) || a.asked[p.ID] != nil {
		return nil
	}
	kind, key := actionKey(p.Action)
	if kind == "" || toolCall(r) != "" { // what the model wrote is never a question of OpenCode's
		return nil
	}
	q := &Asked{ID: p.ID, Kind: kind, Session: r.StreamID, Instance: instance(r), Seq: r.Seq, Key: key}
	a.asked[q.ID] = q
	if key != "" {
		a.keys[key] = append(a.keys[key], q)
	}
	return q
}

// decision takes a decision that stands behind its guard. One that came from OpenCode
// ends the question; one that was carried over from the same question before does not.
func (a *Answers) decision(r event.Recorded) *Asked {
	var p struct {
		ID string `json:"checkpoint_id"`
	}
	if r.Guard == "" || !read(r.Payload, &p) || a.asked[p.ID] == nil {
		return nil
	}
	var m struct {
		Carried string `json:"carried_from"`
	}
	read(r.Metadata, &m)
	q := a.asked[p.ID]
	q.Decided, q.Status = true, strings.TrimPrefix(r.Type, "checkpoint.")
	if instance(r) != "" && m.Carried == "" {
		a.over(q)
	}
	return q
}

func (a *Answers) over(q *Asked) *Asked {
	q.Over = true
	a.forget(q)
	for _, p := range a.keys[q.Key] {
		if p.UsedFor == q.ID {
			p.Over = true
			a.forget(p)
		}
	}
	return q
}

func (a *Answers) forget(q *Asked) {
	delete(a.asked, q.ID)
	rest := slices.DeleteFunc(slices.Clone(a.keys[q.Key]), func(p *Asked) bool { return p == q })
	if len(rest) == 0 {
		delete(a.keys, q.Key)
	} else {
		a.keys[q.Key] = rest
	}
}

// All are the questions that are not over, in the order in which they were asked.
func (a *Answers) All() []*Asked {
	var out []*Asked
	for _, q := range a.asked {
		out = append(out, q)
	}
	slices.SortFunc(out, func(p, q *Asked) int { return cmp.Compare(p.Seq, q.Seq) })
	return out
}

// Same are the questions about the same exact action that are not over, without q itself,
// in the order in which they were asked.
func (a *Answers) Same(q *Asked) []*Asked {
	if q.Key == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(a.keys[q.Key]), func(p *Asked) bool { return p == q })
}

// SameAction reports whether two requests of OpenCode, as the actions of their
// checkpoints hold them, are about the same exact action.
func SameAction(a, b json.RawMessage) bool {
	_, k := actionKey(a)
	_, l := actionKey(b)
	return k != "" && k == l
}

// actionKey reads the action of a checkpoint that OpenCode asked for: what kind of
// question it is, and what tells the same one asked again. The ids of the request, of
// the message and of the call are new each time and do not count.
func actionKey(action json.RawMessage) (kind, key string) {
	var p struct {
		Kind       string          `json:"opencode"`
		Session    string          `json:"sessionID"`
		Permission json.RawMessage `json:"permission,omitempty"`
		Patterns   json.RawMessage `json:"patterns,omitempty"`
		Metadata   json.RawMessage `json:"metadata,omitempty"`
		Questions  json.RawMessage `json:"questions,omitempty"`
	}
	if !isObject(action) || !read(action, &p) || p.Kind == "" {
		return "", ""
	}
	if p.Session == "" || (p.Permission == nil) == (p.Questions == nil) {
		return p.Kind, ""
	}
	dec := json.NewDecoder(bytes.NewReader(marshal(p)))
	dec.UseNumber() // 1 and 1.0 are two actions
	var v any
	if dec.Decode(&v) != nil {
		return p.Kind, ""
	}
	canonical := marshal(v) // members sorted
	if bytes.ContainsRune(canonical, '\ufffd') || bytes.Contains(canonical, []byte("…[cut: ")) {
		return p.Kind, "" // something of it is not known
	}
	return p.Kind, digest(canonical)
}
