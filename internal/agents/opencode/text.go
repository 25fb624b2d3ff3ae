package opencode

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"strconv"
	"strings"
	"time"

	"durablestream/event"
)

// stream is a text that comes in pieces.
//
// A crash costs what came since the last snapshot, at most Config.Interval of it.
// The end needs no deltas at all: OpenCode sends the whole text when a part ends.
type stream struct {
	lag       lagState
	session   *session
	partID    string
	messageID string
	kind      string // "text" or "reasoning"
	field     string // of the part, where it is not its text

	buf    []byte    // at most Config.Limit
	size   int       // of the whole
	over   hash.Hash // over the whole, once it is larger than buf
	middle bool      // its beginning was not seen
	done   bool      // stored to its end
	last   string    // the hash of what was stored last
	stored time.Time // when
	upTo   string    // the last bus event that is in it
	fields textFields
}

// textFields are kept of a part beside its text.
type textFields struct {
	Time      json.RawMessage `json:"time,omitempty"`
	Synthetic json.RawMessage `json:"synthetic,omitempty"`
	Ignored   json.RawMessage `json:"ignored,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

func (x *stream) behind() *lagState { return &x.lag }

func (t *Translator) partDelta() bool {
	var p struct {
		SessionID string  `json:"sessionID"`
		MessageID string  `json:"messageID"`
		PartID    string  `json:"partID"`
		Field     string  `json:"field"`
		Delta     *string `json:"delta"`
	}
	if !read(t.bus.Properties, &p) || p.SessionID == "" || p.PartID == "" || p.Delta == nil {
		return false
	}
	s := t.session(p.SessionID)
	if p.Field == "text" {
		p.Field = ""
	}
	key := p.PartID
	if p.Field != "" {
		key += " " + p.Field
	}
	x := s.texts[key]
	if x == nil {
		s.bound(t)
		if m := s.message(p.MessageID); m != nil && m.completed {
			t.stats.Late++
			return true
		}
		x = &stream{session: s, partID: p.PartID, messageID: p.MessageID, kind: "text", field: p.Field, middle: p.Field == ""}
		s.texts[key] = x
	}
	if x.done {
		t.stats.Late++
		return true
	}
	if !after(t.bus.ID, x.upTo) {
		return t.covered() // sent again: it is in the snapshot that Seed found
	}
	x.upTo = t.bus.ID
	t.stats.Joined++
	x.add(*p.Delta, t.cfg.Limit)
	t.changed(x)
	return true
}

// after reports whether one bus event came after another. Of ids that are not
// OpenCode's nothing is known.
func after(id, than string) bool {
	return than == "" || len(id) != len(than) || !strings.HasPrefix(than, "evt_") || id > than
}

// add joins a piece. Memory ends at limit; size and hash go on.
func (x *stream) add(piece string, limit int) {
	x.size += len(piece)
	if x.over == nil && x.size <= limit {
		x.buf = append(x.buf, piece...)
		return
	}
	if x.over == nil {
		x.over = sha256.New()
		x.over.Write(x.buf)
	}
	x.over.Write([]byte(piece))
}

func (x *stream) set(s string) {
	x.buf, x.size, x.over, x.middle = []byte(s), len(s), nil, false
}

// textUpdated takes a text or a reasoning as a whole: at its begin (empty), at its
// end, or a user's, which never streams.
func (t *Translator) textUpdated(s *session, p part) bool {
	x := s.texts[p.ID]
	if x == nil {
		x = &stream{session: s, partID: p.ID}
		s.texts[p.ID] = x
	}
	x.messageID, x.kind = cmp.Or(p.MessageID, x.messageID), p.Type
	x.fields = textFields{p.Time, p.Synthetic, p.Ignored, p.Metadata}
	var at struct {
		End json.RawMessage `json:"end"`
	}
	m := s.message(p.MessageID)
	ended := len(p.Time) > 0 && read(p.Time, &at) && len(at.End) > 0 && string(at.End) != "null" ||
		m != nil && (m.role == "user" || m.completed)
	if !ended {
		if x.size == 0 || len(p.Text) > x.size {
			x.set(p.Text)
			x.upTo = t.bus.ID
		}
		switch {
		case len(p.Text) == 0: // begins
			if x.last == "" {
				t.hold(&x.lag) // what kind of text it is, nothing else tells
			}
			return t.covered()
		case x.last != "" && t.now.Sub(x.stored) < t.cfg.Interval:
			t.changed(x)
			return t.covered()
		case x.last == x.digest():
			return t.covered()
		}
		t.textEvent(x, "", true)
		return true
	}
	x.set(p.Text)
	x.upTo = t.bus.ID
	t.saved(&x.lag)
	if x.done && x.last == x.digest() {
		return t.covered()
	}
	x.done = true
	t.textEvent(x, "", false)
	x.buf = nil
	return true
}

func (x *stream) digest() string {
	if x.over != nil {
		return hex.EncodeToString(x.over.Sum(nil))
	}
	return digest(x.buf)
}

// snapshot stores a text as far as it has come.
func (x *stream) snapshot(t *Translator) {
	t.textEvent(x, strconv.Itoa(x.size)+"."+x.digest()[:16], true)
}

// finish stores a text that will not go on, unless it is stored.
func (t *Translator) finish(x *stream) {
	if !x.done && x.size > 0 {
		t.textEvent(x, "final."+x.digest()[:16], false)
	}
	t.saved(&x.lag)
	x.done, x.buf = true, nil
}

// textEvent gives out what x has; rest tells its id, and "" is the bus event's.
func (t *Translator) textEvent(x *stream, rest string, partial bool) {
	text := string(x.buf)
	x.last, x.stored = x.digest(), t.now
	t.saved(&x.lag)
	cuts := 0
	if x.over != nil {
		text, cuts = prefixOf(text, t.cfg.Limit/4)+cutMarker(x.size, x.last), 1
	}
	payload := marshal(struct {
		event.Text
		Field   string `json:"field,omitempty"`
		Partial bool   `json:"partial,omitempty"`     // more may come
		Middle  bool   `json:"from_middle,omitempty"` // its beginning was not seen
		textFields
	}{event.Text{SessionID: x.session.id, MessageID: x.messageID, PartID: x.partID, Text: text}, x.field, partial, x.middle && len(x.buf) > 0, x.fields})
	d := draft{typ: event.ExecutionTextSnapshot, session: x.session.id, actor: x.session.actor(x.messageID), payload: payload, cuts: cuts, upTo: x.upTo}
	switch {
	case x.field != "":
		d.typ = prefix + "message.part.delta"
		rest = x.field + "." + rest
	case x.kind == "reasoning":
		d.typ = event.ExecutionReasoningSnapshot
	}
	if rest != "" {
		d.id = derived(x.partID, rest)
	}
	t.plain(d)
}
