package opencode

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// ask is a question of OpenCode that waits for its answer.
type ask struct {
	id      string
	session string
	call    string
	event   string // the request's event id
	options []event.Option
}

// request is what permission.asked and question.asked have in common.
type request struct {
	ID        string `json:"id"`
	SessionID string `json:"sessionID"`
	Tool      struct {
		MessageID string `json:"messageID"`
		CallID    string `json:"callID"`
	} `json:"tool"`
}

func (r request) valid() bool {
	return r.SessionID != "" && event.ValidateID("checkpoint", r.ID) == nil
}

// permissionAsked binds a checkpoint to the exact action: the action is OpenCode's
// request as it came. It holds nothing that this process remembers (the call's input
// may come later), so whoever asks again asks the same.
func (t *Translator) permissionAsked() bool {
	var p struct {
		request
		Permission string   `json:"permission"`
		Patterns   []string `json:"patterns"`
		Always     []string `json:"always"`
	}
	if !read(t.bus.Properties, &p) || !p.valid() {
		return false
	}
	point := "Allow " + cmp.Or(p.Permission, "this")
	if len(p.Patterns) > 0 {
		point += ": " + strings.Join(p.Patterns, ", ")
	}
	options := []event.Option{{ID: "once", Label: "Allow once"}}
	if len(p.Always) > 0 {
		label := clip("Allow always: "+strings.Join(p.Always, ", "), 500)
		options = append(options, event.Option{ID: "always", Label: label})
	}
	t.ask(p.request, point+"?", options, nil, "permission")
	return true
}

// answersSchema is the shape of a question's answers: one list of labels, or of the
// user's own words, a question.
func answersSchema(questions int) json.RawMessage {
	n := strconv.Itoa(questions)
	return json.RawMessage(`{"type":"array","minItems":` + n + `,"maxItems":` + n + `,"items":{"type":"array","items":{"type":"string"}}}`)
}

// questionAsked offers the labels as options where there is one question with one
// answer; an answer in the form of OpenCode, [["label"], …], is good in any case.
func (t *Translator) questionAsked() bool {
	var p struct {
		request
		Questions []struct {
			Question string         `json:"question"`
			Header   string         `json:"header"`
			Multiple bool           `json:"multiple"`
			Options  []event.Option `json:"options"`
		} `json:"questions"`
	}
	if !read(t.bus.Properties, &p) || !p.valid() || len(p.Questions) == 0 {
		return false
	}
	var points []string
	for _, q := range p.Questions {
		points = append(points, cmp.Or(q.Question, q.Header, "a question without words"))
	}
	var options []event.Option
	if q := p.Questions[0]; len(p.Questions) == 1 && !q.Multiple {
		seen := map[string]bool{}
		for i, o := range q.Options {
			id := o.Label
			if id == "" || seen[id] {
				id = "#" + strconv.Itoa(i+1)
			}
			if seen[id] {
				options = nil // free answers only
				break
			}
			seen[id] = true
			options = append(options, event.Option{ID: id, Label: o.Label, Description: o.Description})
		}
	}
	t.ask(p.request, strings.Join(points, "\n"), options, answersSchema(len(p.Questions)), "question")
	return true
}

func (t *Translator) ask(r request, point string, options []event.Option, schema json.RawMessage, kind string) {
	s := t.session(r.SessionID)
	a := &ask{id: r.ID, session: r.SessionID, call: r.Tool.CallID, event: t.bus.ID, options: options}
	if len(t.asks) < keepParts {
		t.asks[r.ID] = a
	}
	if options == nil {
		options = []event.Option{}
	}
	by := s.actor(r.Tool.MessageID)
	if by == "user" || by == t.cfg.User {
		by = "opencode" // who asks can never decide
	}
	point = clip(point, 4000)
	cause := ""
	for _, key := range sortedKeys(s.calls) {
		if c := s.calls[key]; c.started && c.callID != "" && c.callID == a.call {
			cause = c.startID()
		}
	}
	action, _ := shorten(withField(t.bus.Properties, "opencode", kind), t.cfg.Limit/2, event.MaxDepth-2)
	t.out = append(t.out, source.Item{
		Kind: source.Ask, Checkpoint: r.ID, Else: t.elseKeep(r.SessionID),
		Event: t.event(draft{typ: event.CheckpointRequested, session: s.id, actor: by, cause: cause, payload: marshal(event.Checkpoint{
			ID: r.ID, DecisionPoint: point, Options: options, RequestedBy: by, RequestedAt: event.Milli(t.at), Schema: schema, Action: action,
		})}),
	})
}

// elseKeep is the bus event as a plain event.
func (t *Translator) elseKeep(session string) *event.Event {
	e := t.event(draft{id: derived(t.bus.ID, "plain"), typ: typeName(t.bus.Type), session: session, payload: t.bus.Properties})
	return &e
}

// reply is what permission.replied, question.replied and question.rejected have in
// common.
type reply struct {
	SessionID string     `json:"sessionID"`
	RequestID string     `json:"requestID"`
	Reply     string     `json:"reply"`
	Answers   [][]string `json:"answers"`
}

func (t *Translator) reply() (p reply, ok bool) {
	return p, read(t.bus.Properties, &p) && p.SessionID != "" && event.ValidateID("checkpoint", p.RequestID) == nil
}

// permissionReplied decides as OpenCode's user did. A reply that is not one of the
// three known is no decision, and is kept as it is.
func (t *Translator) permissionReplied() bool {
	p, ok := t.reply()
	if !ok {
		return false
	}
	switch p.Reply {
	case "once", "always":
		t.approve(p, p.Reply, nil)
	case "reject":
		t.reject(p, "rejected in OpenCode")
	default:
		return false
	}
	return true
}

func (t *Translator) questionReplied() bool {
	p, ok := t.reply()
	if !ok || p.Answers == nil {
		return false
	}
	option := ""
	if a := t.asks[p.RequestID]; a != nil && len(p.Answers) == 1 && len(p.Answers[0]) == 1 {
		for _, o := range a.options {
			if o.Label == p.Answers[0][0] && option == "" {
				option = o.ID
			}
		}
	}
	for i, a := range p.Answers {
		if a == nil {
			p.Answers[i] = []string{}
		}
	}
	t.approve(p, option, marshal(p.Answers))
	return true
}

func (t *Translator) questionRejected() bool {
	p, ok := t.reply()
	if ok {
		t.reject(p, "dismissed in OpenCode")
	}
	return ok
}

func (t *Translator) approve(p reply, option string, answer json.RawMessage) {
	t.decide(p, event.CheckpointApproved, event.Approved{
		CheckpointID: p.RequestID, ApprovedBy: t.cfg.User, SelectedOption: option, Answer: answer,
	})
}

func (t *Translator) reject(p reply, why string) {
	t.decide(p, event.CheckpointRejected, event.Rejected{CheckpointID: p.RequestID, RejectedBy: t.cfg.User, Reason: why})
}

func (t *Translator) decide(p reply, typ string, payload any) {
	t.session(p.SessionID)
	cause := ""
	if a := t.asks[p.RequestID]; a != nil {
		cause = a.event
	}
	delete(t.asks, p.RequestID)
	more := t.bus.Properties
	if len(more) > 16<<10 {
		more = nil // the answers are in the payload
	}
	t.out = append(t.out, source.Item{
		Kind: source.Decide, Checkpoint: p.RequestID, Else: t.elseKeep(p.SessionID),
		Event: t.event(draft{typ: typ, session: p.SessionID, actor: t.cfg.User, cause: cause, payload: marshal(payload), more: more}),
	})
}

// withdraw cancels the questions that nobody can answer any more: OpenCode drops
// them when a session ends, without a word.
func (t *Translator) withdraw(why string, which func(*ask) bool) {
	for _, id := range sortedKeys(t.asks) {
		a := t.asks[id]
		if !which(a) {
			continue
		}
		delete(t.asks, id)
		t.out = append(t.out, source.Item{
			Kind: source.Withdraw, Checkpoint: id,
			Event: t.event(draft{
				id: derived(id, "cancelled"), typ: event.CheckpointCancelled, session: a.session, cause: a.event,
				payload: marshal(event.Cancelled{CheckpointID: id, CancelledBy: "opencode", Reason: why}),
			}),
		})
	}
}
