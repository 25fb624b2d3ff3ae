package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// Compact returns a copy of v without white space between its tokens; every other
// byte stays as it is. v must be valid JSON.
func Compact(v json.RawMessage) json.RawMessage {
	out := make([]byte, 0, len(v))
	done := 0 // v[:done] is in out, or left out
	for i := 0; i < len(v); {
		switch v[i] {
		case ' ', '\t', '\r', '\n':
			out = append(out, v[done:i]...)
			i++
			done = i
		case '"':
			i = textEnd(v, i)
		default:
			i++
		}
	}
	return append(out, v[done:]...)
}

// textEnd is StringEnd for strings that are long and hold few escapes, as most that
// are appended do.
func textEnd(b []byte, i int) int {
	n := bytes.IndexByte(b[i+1:], '"')
	if n < 0 || bytes.IndexByte(b[i+1:i+1+n], '\\') >= 0 {
		return StringEnd(b, i)
	}
	return i + n + 2
}

// AppendJSON appends the event as one JSON object: known fields first in a fixed
// order, then Extra. Raw values are spliced in as they are.
func (e Event) AppendJSON(dst []byte) []byte {
	start := len(dst)
	dst = append(e.appendMembers(slices.Grow(dst, e.room())), '}')
	dst[start] = '{'
	return dst
}

// AppendJSON appends the event as a reader of the Log sees it: seq first, then
// the event, then guard and imported where they apply.
func (r Recorded) AppendJSON(dst []byte) []byte {
	dst = slices.Grow(dst, r.room())
	dst = strconv.AppendUint(append(dst, `{"seq":`...), uint64(r.Seq), 10)
	return append(r.appendMarks(r.appendMembers(dst)), '}')
}

// AppendBody appends the event as the Log stores it: like AppendJSON, without
// seq, which is the message's own.
func (r Recorded) AppendBody(dst []byte) []byte {
	start := len(dst)
	dst = append(r.appendMarks(r.appendMembers(slices.Grow(dst, r.room()))), '}')
	dst[start] = '{'
	return dst
}

// appendMembers appends the members of the event, each behind a comma. There is always
// one, the timestamp: the first comma may be overwritten.
func (e *Event) appendMembers(dst []byte) []byte {
	dst = appendText(dst, `,"id":`, e.ID)
	dst = appendText(dst, `,"type":`, e.Type)
	dst = appendText(dst, `,"stream_id":`, e.StreamID)
	dst = appendText(dst, `,"causation_id":`, e.CausationID)
	dst = appendText(dst, `,"correlation_id":`, e.CorrelationID)
	dst = appendText(dst, `,"actor":`, e.Actor)
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), e.Milli(), 10)
	if len(e.Payload) > 0 {
		dst = append(append(dst, `,"payload":`...), e.Payload...)
	}
	if len(e.Metadata) > 0 {
		dst = append(append(dst, `,"metadata":`...), e.Metadata...)
	}
	for _, f := range e.Extra {
		dst = append(AppendString(append(dst, ','), f.Name), ':')
		dst = append(dst, f.Value...)
	}
	return dst
}

// room is how many bytes the event takes at most, where its texts need no escapes.
func (e *Event) room() int {
	const names = 140 // of the known members with quotes and commas, and the digits of the time
	n := names + len(e.ID) + len(e.Type) + len(e.StreamID) + len(e.CausationID) + len(e.CorrelationID) + len(e.Actor) + len(e.Payload) + len(e.Metadata)
	for _, f := range e.Extra {
		n += len(f.Name) + len(f.Value) + len(`,"":`)
	}
	return n
}

func (r *Recorded) room() int {
	const names = 56 // of seq with its digits, guard and imported
	return names + r.Event.room() + len(r.Guard)
}

func (r *Recorded) appendMarks(dst []byte) []byte {
	dst = appendText(dst, `,"guard":`, r.Guard)
	if r.Imported {
		dst = append(dst, `,"imported":true`...)
	}
	return dst
}

// appendText appends a member, unless it is empty.
func appendText(dst []byte, name, v string) []byte {
	if v == "" {
		return dst
	}
	return AppendString(append(dst, name...), v)
}

// AppendString appends s as a JSON string with the fewest escapes: the quote, the
// backslash and control characters.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0 // s[:done] is in dst
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[done:]...), '"')
}
