package event

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Stored is the body of a stored event, checked but not yet decoded into an Event: a
// reader that needs no Event saves the memory.
type Stored struct {
	body  []byte
	parts parts
	event *Recorded // instead of body and parts, where scan could not take it
}

// ScanBody checks a body like DecodeBody, without the decoding. The body must not change
// while s is used.
func ScanBody(body []byte) (s Stored, err error) {
	if s.parts.scan(body) {
		s.body = body
		return s, nil
	}
	r, err := decodeBody(body)
	s.event = &r
	return s, err
}

// Type is the event's type; it may lie in the body.
func (s *Stored) Type() []byte {
	if s.event != nil {
		return []byte(s.event.Type)
	}
	return s.parts.typ.of(s.body)
}

// StreamID is the event's stream_id; it may lie in the body.
func (s *Stored) StreamID() []byte {
	if s.event != nil {
		return []byte(s.event.StreamID)
	}
	return s.parts.stream.of(s.body)
}

// Event decodes the event, which shares no memory with the body.
func (s *Stored) Event() Recorded {
	if s.event != nil {
		return *s.event
	}
	return s.parts.recorded(s.body)
}

// parts are the members of a body in the form that AppendBody nearly always writes:
// members in their order, no escapes in the strings before the payload, no Extra, no
// space between members. scan finds them in one pass. Each span begins and ends in the
// body.
//
// scan is a shortcut and never changes the result: each body that scan accepts, decode
// would accept with the same fields (FuzzDecodeBody compares the two). decode handles all
// other bodies, and reports the errors.
type parts struct {
	id, typ, stream, causation, correlation, actor span
	timestamp                                      int64
	payload, metadata                              span
	guard                                          span
	imported                                       bool
}

type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// in gives the part of text that s is in a body from whose byte at on text was copied.
func (s span) in(text string, at int) string {
	if s.to == 0 {
		return ""
	}
	return text[s.from-at : s.to-at]
}

// scan takes b apart, and reports whether it could.
func (s *parts) scan(b []byte) bool {
	if !oneLine(b) || !utf8.Valid(b) {
		return false
	}
	c := cursor{b: b}
	s.id = c.text(`{"id":"`, MaxIDLen)
	s.typ = c.text(`,"type":"`, MaxTypeLen)
	s.stream = c.text(`,"stream_id":"`, MaxStreamIDLen)
	if c.at(`,"causation_id":"`) {
		s.causation = c.text(`,"causation_id":"`, MaxIDLen)
	}
	s.correlation = c.text(`,"correlation_id":"`, MaxCorrelationLen)
	s.actor = c.text(`,"actor":"`, MaxActorLen)
	s.timestamp = c.number(`,"timestamp":`)
	s.payload = c.value(`,"payload":`)
	if c.at(`,"metadata":{`) {
		s.metadata = c.value(`,"metadata":`)
	}
	if c.at(`,"guard":"`) {
		s.guard = c.text(`,"guard":"`, len(b))
	}
	if c.at(`,"imported":true`) {
		c.pass(`,"imported":true`)
		s.imported = true
	}
	c.pass(`}`)
	return !c.failed && c.i == len(b) && isType(s.typ.of(b)) && isPrintable(s.id.of(b)) && isPrintable(s.causation.of(b))
}

// recorded makes the event of b, which scan took apart. Its strings share one copy of
// the members before the payload, and its raw values one of what follows: two pieces
// of memory instead of one a field, of which none is b's.
func (s *parts) recorded(b []byte) Recorded {
	r := Recorded{Imported: s.imported}
	head, at := string(b[s.id.from:s.actor.to]), s.id.from
	r.ID, r.Type, r.StreamID = s.id.in(head, at), s.typ.in(head, at), s.stream.in(head, at)
	r.CausationID, r.CorrelationID, r.Actor = s.causation.in(head, at), s.correlation.in(head, at), s.actor.in(head, at)
	r.Timestamp = Milli(s.timestamp).Time
	raw := slices.Clone(b[s.payload.from:max(s.payload.to, s.metadata.to)])
	n := s.payload.to - s.payload.from
	r.Payload = raw[:n:n]
	if s.metadata.to > 0 {
		r.Metadata = raw[s.metadata.from-s.payload.from : len(raw) : len(raw)]
	}
	if s.guard.to > 0 {
		r.Guard = string(s.guard.of(b))
	}
	return r
}

// cursor passes over a body. Once it has failed, nothing that it gives counts.
type cursor struct {
	b      []byte
	i      int
	failed bool
}

func (c *cursor) at(word string) bool {
	return len(c.b)-c.i >= len(word) && string(c.b[c.i:c.i+len(word)]) == word
}

func (c *cursor) pass(word string) {
	if c.at(word) {
		c.i += len(word)
	} else {
		c.failed = true
	}
}

// text passes a member up to its closing quote: a string of 1 to most bytes, without
// escapes. (An empty guard would be allowed; decode sees to it.)
func (c *cursor) text(before string, most int) span {
	c.pass(before)
	s := span{c.i, special(c.b, c.i)}
	c.i = s.to
	c.pass(`"`)
	if n := s.to - s.from; n == 0 || n > most {
		c.failed = true
	}
	return s
}

// number passes a whole number that surely fits.
func (c *cursor) number(before string) int64 {
	c.pass(before)
	from := c.i
	c.i, _ = digits(c.b, from)
	word := c.b[from:c.i]
	if len(word) == 0 || len(word) > 18 || word[0] == '0' && len(word) > 1 {
		c.failed = true
		return 0
	}
	var n int64
	for _, c := range word {
		n = 10*n + int64(c-'0')
	}
	return n
}

// value passes any JSON value.
func (c *cursor) value(before string) span {
	c.pass(before)
	if c.failed {
		return span{} // or what is no value might be gone through at length
	}
	end, ok := value(c.b, c.i, storedDepth-1)
	s := span{c.i, end}
	c.i, c.failed = end, !ok
	return s
}

// oneLine reports whether b holds no end of a line.
func oneLine(b []byte) bool { return bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 }

// isType is ValidateType for at most MaxTypeLen bytes.
func isType(t []byte) bool {
	tokens, begins := 1, true
	for _, c := range t {
		switch {
		case c == '.' && begins:
			return false
		case c == '.':
			tokens++
			begins = true
		case !inType[c]:
			return false
		default:
			begins = false
		}
	}
	return !begins && MinTypeTokens <= tokens && tokens <= MaxTypeTokens
}

var inType = func() (t [256]bool) {
	for c := range t {
		t[c] = isTypeToken(string([]byte{byte(c)}))
	}
	return t
}()

// isPrintable reports whether s, a string without escapes, is ASCII without control
// characters.
func isPrintable(s []byte) bool {
	for _, c := range s {
		if c >= 0x7f {
			return false
		}
	}
	return true
}
