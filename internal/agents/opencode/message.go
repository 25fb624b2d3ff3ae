package opencode

import (
	"cmp"
	"encoding/json"

	"durablestream/event"
)

// message is a message of a session.
type message struct {
	id        string
	role      string
	agent     string
	completed bool
	last      [32]byte
}

func (m *message) open() bool { return m.role == "assistant" && !m.completed }

func (s *session) message(id string) *message {
	for i := len(s.messages) - 1; i >= 0; i-- {
		if s.messages[i].id == id {
			return s.messages[i]
		}
	}
	return nil
}

// actor is who speaks in a message: the user, or an agent.
func (s *session) actor(messageID string) string {
	agent := s.agent
	if m := s.message(messageID); m != nil {
		if m.role == "user" {
			return "user"
		}
		agent = cmp.Or(m.agent, agent)
	}
	if agent == "" || len(agent) > 512 {
		return "opencode"
	}
	return "agent/" + agent
}

// messageInfo is what matters here of a message.
type messageInfo struct {
	ID        string `json:"id"`
	SessionID string `json:"sessionID"`
	Role      string `json:"role"`
	Agent     string `json:"agent"`
	Time      struct {
		Completed json.RawMessage `json:"completed"`
	} `json:"time"`
}

func readMessage(raw json.RawMessage) (i messageInfo, ok bool) {
	ok = isObject(raw) && read(raw, &i) && i.ID != ""
	return i, ok
}

func (m *message) learn(i messageInfo) {
	m.role, m.agent = cmp.Or(i.Role, m.role), cmp.Or(i.Agent, m.agent)
	m.completed = m.completed || len(i.Time.Completed) > 0 && string(i.Time.Completed) != "null"
}

func (t *Translator) messageUpdated() bool {
	var p struct {
		SessionID string          `json:"sessionID"`
		Info      json.RawMessage `json:"info"`
	}
	if !read(t.bus.Properties, &p) {
		return false
	}
	i, ok := readMessage(p.Info)
	if !ok {
		return false
	}
	session := cmp.Or(p.SessionID, i.SessionID)
	if session == "" {
		return false
	}
	s := t.session(session)
	m := s.message(i.ID)
	if m == nil {
		m = &message{id: i.ID}
		if len(s.messages) >= keepMessages {
			s.messages = append(s.messages[:0], s.messages[1:]...)
		}
		s.messages = append(s.messages, m)
	}
	m.learn(i)
	if m.role == "assistant" {
		s.agent = cmp.Or(i.Agent, s.agent)
	}
	if m.completed && m.role == "assistant" {
		for _, key := range sortedKeys(s.texts) {
			if x := s.texts[key]; x.messageID == m.id {
				t.finish(x) // an abort leaves texts without an end
				if s.idle {
					delete(s.texts, key)
				}
			}
		}
	}
	if h := sum(p.Info); h == m.last {
		return t.covered()
	} else {
		m.last = h
	}
	if m.open() { // has begun
		s.idle = false
		t.plain(draft{typ: prefix + "message.updated", session: s.id, actor: s.actor(m.id), payload: t.bus.Properties})
		return true
	}
	t.plain(draft{typ: event.ExecutionMessageUpdated, session: s.id, actor: s.actor(m.id), payload: p.Info})
	return true
}

// part is what matters here of a message's part.
type part struct {
	ID        string          `json:"id"`
	SessionID string          `json:"sessionID"`
	MessageID string          `json:"messageID"`
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	Time      json.RawMessage `json:"time"`
	Synthetic json.RawMessage `json:"synthetic"`
	Ignored   json.RawMessage `json:"ignored"`
	Metadata  json.RawMessage `json:"metadata"`
	Tool      string          `json:"tool"`
	CallID    string          `json:"callID"`
	State     json.RawMessage `json:"state"`

	raw json.RawMessage
}

// partTypes are the parts that are stored as they are, each under its own type.
var partTypes = map[string]string{
	"step-start":  event.ExecutionStepStart,
	"step-finish": event.ExecutionStepFinish,
	"agent":       event.ExecutionAgent,
	"snapshot":    event.ExecutionSnapshot,
	"retry":       event.ExecutionRetry,
	"patch":       event.FilesPatched,
}

func (t *Translator) partUpdated() bool {
	var props struct {
		SessionID string          `json:"sessionID"`
		Part      json.RawMessage `json:"part"`
	}
	var p part
	if !read(t.bus.Properties, &props) || !isObject(props.Part) || !read(props.Part, &p) || p.ID == "" {
		return false
	}
	p.raw, p.SessionID = props.Part, cmp.Or(props.SessionID, p.SessionID)
	if p.SessionID == "" {
		return false
	}
	s := t.session(p.SessionID)
	s.bound(t)
	switch p.Type {
	case "text", "reasoning":
		return t.textUpdated(s, p)
	case "tool":
		return t.toolUpdated(s, p)
	}
	d := draft{typ: partTypes[p.Type], session: s.id, actor: s.actor(p.MessageID), payload: p.raw}
	if d.typ == "" {
		d.typ, d.payload = prefix+"message.part.updated", t.bus.Properties
	}
	t.plain(d)
	return true
}

// bound holds the number of parts that a session may have in memory.
func (s *session) bound(t *Translator) {
	if len(s.texts) < keepParts && len(s.calls) < keepParts {
		return
	}
	for _, key := range sortedKeys(s.texts) {
		t.finish(s.texts[key])
	}
	clear(s.texts)
	for key, c := range s.calls {
		if c.done || len(s.calls) >= keepParts {
			t.saved(&c.lag)
			delete(s.calls, key)
		}
	}
}
