package opencode

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"durablestream/event"
)

// memory is what a Translator had in memory, as far as the log tells: enough that one
// that is started again, and is sent again what had no answer, goes on where the
// first one was, stores nothing twice and loses no piece of a text.
type memory struct {
	texts    map[string]map[string]*seedText // session → part and field
	messages map[string][]*message           // session → newest last
	said     map[string]map[string][32]byte  // session → bus type → its last properties
	edits    map[string]edit
	ids      map[string]struct{} // of the last events
	ring     []string
	next     int
	last     string // bus event that is in the log
}

// seedText is a text as it was stored last.
type seedText struct {
	event.Text
	textFields
	Field   string `json:"field"`
	Partial bool   `json:"partial"`
	Middle  bool   `json:"from_middle"`

	kind, upTo string
	digest     string // of a text that ended
	cut        bool
	at         int64
}

// keepSeedTexts is how many texts of a session are remembered; those that ended only
// as such.
const keepSeedTexts = 256

// SeedTypes are all types of event that a Fold with an Instance looks at: more than
// those of Types, since what was stored once is known by its id.
func (*Fold) SeedTypes() []string {
	return []string{"lifecycle.>", "execution.>", "agent.>", "checkpoint.>", "files.>", "opencode.>"}
}

// FamilyTypes are the types of event that tell Seed of sessions of other runs, and of all
// questions: few events, of which the whole log is to be read.
func (*Fold) FamilyTypes() []string {
	return []string{"checkpoint.*", decisionUsed, event.LifecycleSessionCreated, event.LifecycleSessionDeleted, event.AgentSpawned}
}

// Stored reports whether an event of the Instance is in the log under this id, as far
// as the last 16,384 of its events go.
func (f *Fold) Stored(id string) bool {
	if f.memory == nil {
		return false
	}
	_, ok := f.memory.ids[id]
	return ok
}

// remember takes an event of the Instance.
func (f *Fold) remember(r event.Recorded) {
	m := f.memory
	if m == nil {
		m = &memory{
			texts: map[string]map[string]*seedText{}, messages: map[string][]*message{}, said: map[string]map[string][32]byte{},
			edits: map[string]edit{}, ids: map[string]struct{}{},
		}
		f.memory = m
	}
	m.id(r.ID)
	switch r.Type {
	case event.ExecutionTextSnapshot, event.ExecutionReasoningSnapshot, prefix + "message.part.delta":
		m.text(r)
	case event.ExecutionMessageUpdated:
		m.message(r.StreamID, r.Payload)
	case prefix + "message.updated":
		var p struct {
			Info json.RawMessage `json:"info"`
		}
		if read(r.Payload, &p) {
			m.message(r.StreamID, p.Info)
		}
	case prefix + "session.updated", prefix + "session.diff", prefix + "todo.updated":
		if m.said[r.StreamID] == nil {
			m.said[r.StreamID] = map[string][32]byte{}
		}
		m.said[r.StreamID][strings.TrimPrefix(r.Type, prefix)] = sum(r.Payload)
	case event.FilesChanged, prefix + "file.watcher.updated":
		m.file(r)
	case event.LifecycleSessionDeleted:
		delete(m.texts, r.StreamID)
		delete(m.messages, r.StreamID)
		delete(m.said, r.StreamID)
	}
}

func (m *memory) id(id string) {
	if len(m.ring) < keepIDs {
		m.ring = append(m.ring, id)
	} else {
		delete(m.ids, m.ring[m.next])
		m.ring[m.next] = id
		m.next = (m.next + 1) % keepIDs
	}
	m.ids[id] = struct{}{}
	if strings.HasPrefix(id, "evt_") && (m.last == "" || after(id, m.last)) {
		m.last = id
	}
}

func (m *memory) text(r event.Recorded) {
	x := seedText{at: r.Milli()}
	if !read(r.Payload, &x) || x.PartID == "" {
		return
	}
	var meta struct {
		Event string `json:"opencode_event"`
		Cut   int    `json:"cut"`
	}
	read(r.Metadata, &meta)
	x.kind, x.upTo, x.cut = "text", cmp.Or(meta.Event, r.ID), meta.Cut > 0
	if r.Type == event.ExecutionReasoningSnapshot {
		x.kind = "reasoning"
	}
	if !x.Partial {
		x.digest = digest([]byte(x.Text.Text))
		x.Text.Text = "" // only that it ended matters
	}
	of := m.texts[r.StreamID]
	if of == nil {
		of = map[string]*seedText{}
		m.texts[r.StreamID] = of
	}
	if len(of) >= keepSeedTexts {
		for key, old := range of {
			if !old.Partial {
				delete(of, key)
			}
		}
	}
	key := x.PartID
	if x.Field != "" {
		key += " " + x.Field
	}
	of[key] = &x
}

func (m *memory) message(session string, raw json.RawMessage) {
	i, ok := readMessage(raw)
	if !ok {
		return
	}
	var n *message
	for _, old := range m.messages[session] {
		if old.id == i.ID {
			n = old
		}
	}
	if n == nil {
		n = &message{id: i.ID}
		m.messages[session] = append(m.messages[session], n)
		if all := m.messages[session]; len(all) > keepMessages {
			m.messages[session] = append(all[:0], all[1:]...)
		}
	}
	n.learn(i)
	n.last = sum(raw)
}

func (m *memory) file(r event.Recorded) {
	var p struct {
		File    string          `json:"file"`
		Session string          `json:"sessionID"`
		Event   json.RawMessage `json:"event"` // of the watcher's only
	}
	if !read(r.Payload, &p) {
		return
	}
	if len(p.Event) > 0 {
		delete(m.edits, p.File)
		return
	}
	if len(m.edits) >= keepEdits {
		clear(m.edits)
	}
	m.edits[p.File] = edit{session: p.Session, at: r.Milli()}
}

// Seed gives a new Translator what the log knows, when the process that translates
// was started again beside an OpenCode that goes on: families and agents of all
// sessions, and what was open in this very instance (Config.Instance, which is to be
// the Fold's too). What another run left open stays as it is.
func (t *Translator) Seed(f *Fold) {
	for _, s := range f.sessions {
		if s.Deleted {
			continue
		}
		n := t.session(s.ID)
		n.learn(info{ParentID: s.ParentID, Agent: s.Agent, Directory: s.Directory})
		if t.cfg.Instance == "" || s.Instance != t.cfg.Instance {
			continue
		}
		n.busy, n.idle = s.Interrupted, f.idle[s.ID]
		n.aborted = s.Error == "MessageAbortedError"
		for _, u := range s.Tools {
			if u.Instance != t.cfg.Instance {
				continue
			}
			c := &call{session: n, partID: u.ID, callID: u.CallID, message: u.MessageID, tool: u.Tool.Tool, started: true, intent: u.intent, child: u.child, sum: u.sum}
			c.paths, c.scripts = mentions(u.State.Input)
			n.calls[u.ID] = c
		}
		t.seedMemory(n, f.memory)
	}
	for id, a := range f.intents {
		// The task's end may be stored, and that of its agent not.
		if n := t.sessions[a.parent]; n != nil && n.calls[id] == nil && a.instance == t.cfg.Instance {
			n.calls[id] = &call{session: n, partID: id, started: true, intent: id, child: a.child}
		}
	}
	for _, q := range f.questions {
		if t.cfg.Instance != "" && q.Instance == t.cfg.Instance && !q.tool {
			t.asks[q.ID] = &ask{id: q.ID, session: q.session, call: q.CallID, event: q.event, options: q.Options}
		}
	}
	if f.memory != nil && f.Instance == t.cfg.Instance {
		t.seed = f.memory
		for path, e := range f.memory.edits {
			t.edits[path] = e
		}
	}
}

func (t *Translator) seedMemory(s *session, m *memory) {
	if m == nil {
		return
	}
	for typ, h := range m.said[s.id] {
		s.last[typ] = h
	}
	for _, old := range m.messages[s.id] {
		n := *old
		s.messages = append(s.messages, &n)
	}
	for key, old := range m.texts[s.id] {
		x := &stream{
			session: s, partID: old.PartID, messageID: old.MessageID, kind: old.kind, field: old.Field, fields: old.textFields,
			upTo: old.upTo, done: !old.Partial, middle: old.Middle, stored: time.UnixMilli(old.at),
		}
		switch {
		case old.cut:
			x.middle = true // what was cut off is not to be had any more
		case x.done:
			x.last = old.digest
		default:
			x.buf, x.size = []byte(old.Text.Text), len(old.Text.Text)
			x.last = x.digest()
		}
		s.texts[key] = x
	}
}

// told reports whether an event that is sent again was translated by the process before,
// with all that follows from it in the log. Such an event is older than the last one
// in the log, which has been written in order; but its state must not be taken for the
// state of now. What is not known by its own id is judged by its kind: only
// those that may say again what was said are left out, and of what the process before
// held in memory the pieces of texts and the progress of calls still count.
func (t *Translator) told() bool {
	id := t.bus.ID
	if t.seed.last == "" || !strings.HasPrefix(id, "evt_") || id == t.seed.last || after(id, t.seed.last) {
		return false
	}
	if _, stored := t.seed.ids[id]; stored {
		return true
	}
	switch t.bus.Type {
	case "session.status", "session.updated", "session.diff", "session.idle", "todo.updated", "message.updated":
		return true
	case "message.part.updated":
		var p struct {
			SessionID string `json:"sessionID"`
			Part      struct {
				ID    string `json:"id"`
				Type  string `json:"type"`
				Text  string `json:"text"`
				State struct {
					Status string `json:"status"`
				} `json:"state"`
			} `json:"part"`
		}
		s := t.sessions[t.sessionOf(t.bus.Properties)]
		if !read(t.bus.Properties, &p) || s == nil {
			return false
		}
		switch p.Part.Type {
		case "text", "reasoning":
			x := s.texts[p.Part.ID]
			return x != nil && (x.done || !after(id, x.upTo) || p.Part.Text == "")
		case "tool":
			c := s.calls[p.Part.ID]
			return c == nil || c.done || p.Part.State.Status != "running"
		}
	}
	return false
}
