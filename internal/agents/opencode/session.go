package opencode

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"durablestream/event"
)

// session is what a Translator knows of a session.
type session struct {
	id      string
	parent  string
	agent   string
	dir     string
	busy    bool
	idle    bool // and was said to be, since it was last busy
	aborted bool // since it was last busy
	used    int64
	last    map[string][32]byte // bus type → its last properties

	messages []*message // newest last
	texts    map[string]*stream
	calls    map[string]*call
}

func (t *Translator) session(id string) *session {
	s := t.sessions[id]
	if s == nil {
		s = &session{id: id, last: map[string][32]byte{}, texts: map[string]*stream{}, calls: map[string]*call{}}
		t.sessions[id] = s
	}
	s.used = t.clock
	return s
}

// info is what matters here of a session's info.
type info struct {
	ID        string `json:"id"`
	ParentID  string `json:"parentID"`
	Agent     string `json:"agent"`
	Directory string `json:"directory"`
}

func (s *session) learn(i info) {
	if i.ParentID != s.id {
		s.parent = cmp.Or(i.ParentID, s.parent)
	}
	s.agent, s.dir = cmp.Or(i.Agent, s.agent), cmp.Or(i.Directory, s.dir)
}

// said reports whether the last event of this type said just the same.
func (s *session) said(typ string, properties []byte) bool {
	h := sum(properties)
	again := s.last[typ] == h
	s.last[typ] = h
	return again
}

// withInfo reads an event that carries a session.
func (t *Translator) withInfo() (s *session, i info, raw json.RawMessage, ok bool) {
	var p struct {
		Info json.RawMessage `json:"info"`
	}
	if !read(t.bus.Properties, &p) || !isObject(p.Info) || !read(p.Info, &i) {
		return nil, i, nil, false
	}
	id := cmp.Or(i.ID, t.sessionOf(t.bus.Properties))
	if id == "" {
		return nil, i, nil, false
	}
	return t.session(id), i, p.Info, true
}

func (t *Translator) sessionCreated() bool {
	s, i, raw, ok := t.withInfo()
	if !ok {
		return false
	}
	s.learn(i)
	t.plain(draft{typ: event.LifecycleSessionCreated, session: s.id, payload: raw})
	return true
}

func (t *Translator) sessionUpdated() bool {
	s, i, _, ok := t.withInfo()
	if !ok {
		return false
	}
	s.learn(i)
	if s.said(t.bus.Type, t.bus.Properties) {
		return t.covered()
	}
	t.keep(s.id)
	return true
}

// sessionState is an event that tells a state as a whole.
func (t *Translator) sessionState() bool {
	id := t.sessionOf(t.bus.Properties)
	if id == "" {
		return false
	}
	if t.session(id).said(t.bus.Type, t.bus.Properties) {
		return t.covered()
	}
	t.keep(id)
	return true
}

func (t *Translator) sessionStatus() bool {
	var p struct {
		SessionID string          `json:"sessionID"`
		Status    json.RawMessage `json:"status"`
	}
	var status struct {
		Type string `json:"type"`
	}
	if !read(t.bus.Properties, &p) || p.SessionID == "" || !isObject(p.Status) || !read(p.Status, &status) {
		return false
	}
	s := t.session(p.SessionID)
	switch status.Type {
	case "busy":
		if s.busy {
			return t.covered() // once a turn is enough
		}
		s.begin()
		t.keep(s.id)
	case "idle":
		return t.covered() // session.idle follows at once, and counts
	case "retry":
		s.begin()
		t.plain(draft{typ: event.ExecutionRetry, session: s.id, payload: withField(p.Status, "sessionID", s.id)})
	default:
		return false
	}
	return true
}

func (s *session) begin() { s.busy, s.idle, s.aborted = true, false, false }

// sessionIdle counts one idle a turn: an abort or an error sends two, of which the
// first comes before the last words of the session and the second after them.
func (t *Translator) sessionIdle() bool {
	id := t.sessionOf(t.bus.Properties)
	if id == "" {
		return false
	}
	s := t.session(id)
	again := s.idle
	s.busy, s.idle = false, true
	if !slices.ContainsFunc(s.messages, func(m *message) bool { return m.open() }) {
		t.settle(s, "the session went idle")
	}
	if again {
		return t.covered()
	}
	t.plain(draft{typ: event.LifecycleSessionIdle, session: id, payload: t.bus.Properties})
	return true
}

func (t *Translator) sessionError() bool {
	var p struct {
		SessionID string `json:"sessionID"`
		Error     struct {
			Name string `json:"name"`
		} `json:"error"`
	}
	if !read(t.bus.Properties, &p) {
		return false
	}
	t.plain(draft{typ: event.LifecycleSessionError, session: p.SessionID, payload: t.bus.Properties})
	if p.SessionID != "" && p.Error.Name == "MessageAbortedError" {
		s := t.session(p.SessionID)
		s.aborted = true
		// OpenCode forgets the question and never says so.
		t.withdraw("the session was aborted", func(a *ask) bool { return a.session == s.id })
	}
	return true
}

func (t *Translator) sessionCompacted() bool {
	id := t.sessionOf(t.bus.Properties)
	if id == "" {
		return false
	}
	t.plain(draft{typ: event.LifecycleSessionCompacted, session: id, payload: t.bus.Properties})
	return true
}

func (t *Translator) sessionDeleted() bool {
	s, i, raw, ok := t.withInfo()
	if !ok {
		return false
	}
	s.learn(i)
	t.settle(s, "the session was deleted")
	for _, key := range sortedKeys(s.calls) {
		if c := s.calls[key]; c.intent != "" {
			t.endIntent(c, event.AgentAborted, event.IntentEnd{IntentID: c.intent, Reason: "the session was deleted"})
		}
	}
	t.plain(draft{typ: event.LifecycleSessionDeleted, session: s.id, payload: marshal(struct {
		DeletedAt int64           `json:"deleted_at"`
		Reason    string          `json:"reason"`
		Info      json.RawMessage `json:"info"`
	}{t.at, "deleted in OpenCode", raw})})
	delete(t.sessions, s.id)
	return true
}

// settle stores what a session has not said to its end, and forgets its texts, its
// ended calls and its questions.
func (t *Translator) settle(s *session, why string) {
	for _, key := range sortedKeys(s.texts) {
		t.finish(s.texts[key])
	}
	t.withdraw(why, func(a *ask) bool { return a.session == s.id })
	for _, key := range sortedKeys(s.calls) {
		c := s.calls[key]
		t.saved(&c.lag)
		if c.done || c.intent == "" { // a sub-agent may work on behind the session's back
			delete(s.calls, key)
		}
	}
	clear(s.texts)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}

// evict holds the bounds: sessions that nobody used for longest go, idle ones first.
func (t *Translator) evict() {
	if len(t.sessions) <= keepSessions {
		return
	}
	all := make([]*session, 0, len(t.sessions))
	for _, s := range t.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *session) int {
		if a.busy != b.busy {
			if b.busy {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.used, b.used)
	})
	for _, s := range all[:keepSessions/4] {
		for _, key := range sortedKeys(s.texts) {
			t.finish(s.texts[key])
		}
		if s.busy {
			t.stats.Evictions++
		}
		for _, key := range sortedKeys(s.calls) {
			t.saved(&s.calls[key].lag)
		}
		delete(t.sessions, s.id)
	}
}
