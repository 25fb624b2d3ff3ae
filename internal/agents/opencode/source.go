package opencode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/agents/source"
	"durablestream/internal/canonical"
	"durablestream/projection"
)

// name is OpenCode's in methods, types and metadata.
const name = "opencode"

// Agent is OpenCode, for the intake.
func Agent() source.Agent {
	return source.Agent{
		Name: name, Title: "OpenCode",
		New: func(cfg source.Config) source.Source {
			return &feed{
				tr:   New(Config{Instance: cfg.Instance, Limit: cfg.Limit}),
				fold: &Fold{Instance: cfg.Instance}, stored: func(string) bool { return false },
			}
		},
		Recovery:     func() source.Recovery[any] { return anyRecovery{&Fold{}} },
		FamilyTypes:  (*Fold)(nil).FamilyTypes(),
		RunTypes:     (*Fold)(nil).SeedTypes(),
		SettledTypes: []string{prefix + "permission.*", prefix + "question.*"},
	}
}

// feed is a Translator as a Source.
type feed struct {
	tr     *Translator
	fold   *Fold                // nil once the Translator is seeded
	stored func(id string) bool // by an earlier process
}

// Seed folds what the Translator is seeded with at its first event.
func (s *feed) Seed(r event.Recorded) { s.fold.Apply(r) }

func (s *feed) seeded() *Translator {
	if s.fold != nil {
		s.tr.Seed(s.fold)
		s.stored, s.fold = s.fold.Stored, nil
	}
	return s.tr
}

func (s *feed) Take(raw json.RawMessage, now time.Time) source.Step {
	step := s.step(s.seeded().Take(Parse(raw), now))
	if ticket, held := s.tr.Held(); held {
		step.Ticket = ticket
	}
	return step
}

func (s *feed) Tick(now time.Time) source.Step { return s.step(s.seeded().Tick(now)) }

func (s *feed) Flush(now time.Time) source.Step { return s.step(s.seeded().Flush(now)) }

func (s *feed) step(items []source.Item) source.Step {
	for i := range items {
		items[i].Stored = items[i].Kind == source.Plain && s.stored(items[i].Event.ID)
	}
	step := source.Step{Items: items, Released: s.tr.Released()}
	if at, due := s.tr.Due(); due {
		step.Due = at
	}
	return step
}

// Action reads the action of a checkpoint that OpenCode asked for: what kind of question
// it is ("permission" or "question"), and what tells the same one asked again: the session
// with the same permission, patterns and metadata, or with the same questions and options.
// The ids of the request, of the message and of the call are new each time and do not
// count.
func (*feed) Action(action json.RawMessage) (kind, key string) {
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
	text, err := canonical.JSON(marshal(p))
	if err != nil || bytes.Contains(text, []byte("…[cut: ")) {
		return p.Kind, "" // a part of the action is not known
	}
	return p.Kind, digest(text)
}

// Settled names the question that was answered in OpenCode by an answer that is no
// decision of the log's.
func (*feed) Settled(r event.Recorded) string {
	switch r.Type {
	case prefix + "permission.replied", prefix + "question.replied", prefix + "question.rejected":
		var p reply
		if read(r.Payload, &p) {
			return p.RequestID
		}
	}
	return ""
}

// answer is the notification opencode.answer.
type answer struct {
	SessionID string          `json:"sessionID"`
	Kind      string          `json:"kind"`
	RequestID string          `json:"requestID"`
	Reply     string          `json:"reply"`
	Answers   json.RawMessage `json:"answers,omitempty"`
	Message   string          `json:"message,omitempty"`
	By        string          `json:"by"`
}

// Answer is a decision in the words of OpenCode's own API.
func (*feed) Answer(q source.Question, cp projection.Checkpoint) any {
	d := cp.Decision
	n := answer{SessionID: q.Session, Kind: q.Kind, RequestID: q.ID, Reply: "reject", By: d.By}
	switch d.Status {
	case projection.Approved:
		n.Reply, n.Message = "once", d.Comment
		if d.Option == "always" && q.Kind == "permission" {
			n.Reply = "always"
		}
		if q.Kind == "question" {
			n.Answers = labels(cp)
		}
	case projection.Rejected:
		n.Message = d.Reason
	default:
		n.Message = fmt.Sprintf("the question was %s by %s", d.Status, d.By)
		if d.Reason != "" {
			n.Message += ": " + d.Reason
		}
	}
	return n
}

// labels are the answers to a question as OpenCode takes them.
func labels(cp projection.Checkpoint) json.RawMessage {
	if len(cp.Decision.Answer) > 0 {
		return cp.Decision.Answer
	}
	for _, o := range cp.Options {
		if o.ID == cp.Decision.Option {
			return marshal([][]string{{o.Label}})
		}
	}
	return marshal([][]string{{cp.Decision.Option}})
}
