package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// known are the top-level names of Event, in the order in which they are written.
var known = []string{"id", "type", "stream_id", "causation_id", "correlation_id", "actor", "timestamp", "payload", "metadata"}

// MarshalJSON makes json.Marshal work; note that json.Marshal escapes HTML
// characters in the payload, which AppendJSON never does.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// MarshalJSON makes json.Marshal work; see Event.MarshalJSON.
func (r Recorded) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON is Decode.
func (e *Event) UnmarshalJSON(b []byte) error {
	got, err := Decode(b)
	if err == nil {
		*e = got
	}
	return err
}

// UnmarshalJSON is DecodeRecorded.
func (r *Recorded) UnmarshalJSON(b []byte) error {
	got, err := DecodeRecorded(b)
	if err == nil {
		*r = got
	}
	return err
}

// Decode reads one event to append. Unknown fields go to Extra. Decode returns an
// *InvalidError for a reserved field, a duplicate field, a known field of the wrong kind,
// and a line that is nested deeper than MaxDepth. Validate checks all other rules.
func Decode(line []byte) (Event, error) {
	var r Recorded
	err := decode(line, &r, MaxDepth, func(name string, v json.RawMessage) (bool, error) {
		if slices.Contains(reserved, name) {
			return false, &InvalidError{name, string(v), "is a reserved field: the Log writes it itself; leave it out"}
		}
		return false, nil
	})
	if err != nil {
		return Event{}, err
	}
	return r.Event, nil
}

// DecodeBody reads an event as the Log stores it (AppendBody) and checks its fields. Seq
// stays 0. A body must be one line, since the mirror builds its lines from it.
func DecodeBody(body []byte) (Recorded, error) {
	s, err := ScanBody(body)
	return s.Event(), err
}

// decodeBody is DecodeBody without the shortcut.
func decodeBody(body []byte) (Recorded, error) {
	var r Recorded
	if !oneLine(body) || !bytes.HasPrefix(body, []byte("{")) || !bytes.HasSuffix(body, []byte("}")) {
		return r, &InvalidError{"body", string(body), "must be one JSON object, on one line and without space around it"}
	}
	if err := decode(body, &r, storedDepth, r.takeMark); err != nil {
		return Recorded{}, err
	}
	return r, r.checkStored()
}

// checkStored checks the fields of an event that comes from the Log or its mirror.
func (r Recorded) checkStored() error {
	if len(r.Payload) == 0 {
		return &InvalidError{"payload", "", "must be there"}
	}
	return r.validateNames()
}

// DecodeRecorded reads an event with its seq, as query prints it and as the mirror's
// lines hold it. It ignores a mirror line's chain, which package mirror checks.
func DecodeRecorded(line []byte) (Recorded, error) {
	var r Recorded
	err := decode(line, &r, storedDepth, func(name string, v json.RawMessage) (bool, error) {
		switch name {
		case "seq":
			n, err := strconv.ParseUint(string(v), 10, 64)
			if err != nil || n == 0 {
				return true, &InvalidError{"seq", string(v), "must be a whole number from 1"}
			}
			r.Seq = Sequence(n)
			return true, nil
		case "chain":
			return true, nil
		}
		return r.takeMark(name, v)
	})
	if err != nil {
		return Recorded{}, err
	}
	if r.Seq == 0 {
		return Recorded{}, &InvalidError{"seq", "", "must be there: this line was not written by a Log"}
	}
	return r, r.checkStored()
}

func (r *Recorded) takeMark(name string, v json.RawMessage) (bool, error) {
	switch name {
	case "guard":
		s, err := decodeString(name, v)
		r.Guard = s
		return true, err
	case "imported":
		if string(v) != "true" {
			return true, &InvalidError{"imported", string(v), "must be true, or left out"}
		}
		r.Imported = true
		return true, nil
	case "seq", "chain":
		return true, &InvalidError{name, string(v), "does not belong into a stored event"}
	}
	return false, nil
}

// decode splits line, of at most depth levels, into its top-level members. It offers each
// member to take first; a member that take refuses is a field of the event.
func decode(line []byte, r *Recorded, depth int, take func(string, json.RawMessage) (bool, error)) error {
	switch {
	case !utf8.Valid(line):
		return &InvalidError{"line", string(line), "must be valid UTF-8"}
	case valid(line, depth):
	case valid(line, storedDepth):
		return tooDeep("line", line, depth)
	default:
		return &InvalidError{"line", string(line), "must be one JSON object"}
	}
	var seen names
	return members(line, func(name string, v json.RawMessage) error {
		if !seen.add(name) {
			return &InvalidError{name, string(v), "is given twice"}
		}
		taken, err := take(name, v)
		if taken || err != nil {
			return err
		}
		return r.take(name, v)
	})
}

func (e *Event) take(name string, v json.RawMessage) error {
	var err error
	switch name {
	case "id":
		e.ID, err = decodeString(name, v)
	case "type":
		e.Type, err = decodeString(name, v)
	case "stream_id":
		e.StreamID, err = decodeString(name, v)
	case "correlation_id":
		e.CorrelationID, err = decodeString(name, v)
	case "actor":
		e.Actor, err = decodeString(name, v)
	case "causation_id":
		if saysNone(v) {
			e.Extra = append(e.Extra, Field{name, slices.Clone(v)})
			return nil
		}
		e.CausationID, err = decodeString(name, v)
	case "timestamp":
		ms, bad := strconv.ParseInt(string(v), 10, 64)
		if e.Timestamp = Milli(ms).Time; bad != nil {
			return &InvalidError{name, string(v), "must be Unix time in whole milliseconds"}
		}
	case "payload":
		e.Payload = slices.Clone(v)
	case "metadata":
		e.Metadata = slices.Clone(v)
		if !isObject(v) {
			return &InvalidError{name, string(v), "must be a JSON object, or left out"}
		}
	default:
		e.Extra = append(e.Extra, Field{name, slices.Clone(v)})
	}
	return err
}

// saysNone reports an explicit value for "no causation_id". decode keeps it as an unknown
// field, so that it survives the round trip.
func saysNone(v json.RawMessage) bool { return string(v) == "null" || string(v) == `""` }

// decodeString decodes a JSON string and refuses half a surrogate pair, which Go would
// silently replace.
func decodeString(field string, v json.RawMessage) (string, error) {
	if len(v) < 2 || v[0] != '"' {
		return "", &InvalidError{field, string(v), "must be a JSON string"}
	}
	inner := string(v[1 : len(v)-1])
	if !strings.Contains(inner, `\`) {
		return inner, nil
	}
	if halfSurrogate(inner) {
		return "", &InvalidError{field, string(v), "holds half of a surrogate pair"}
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return "", &InvalidError{field, string(v), "must be a JSON string"}
	}
	return s, nil
}

// halfSurrogate reports an escape such as \ud83d in a JSON string without its other half
// beside it.
func halfSurrogate(inner string) bool {
	unit := func(i int) rune {
		n, _ := strconv.ParseUint(inner[i:i+4], 16, 32)
		return rune(n)
	}
	for i := 0; i < len(inner); i++ {
		if inner[i] != '\\' {
			continue
		}
		i++ // at the character after the backslash
		if inner[i] != 'u' {
			continue
		}
		r := unit(i + 1)
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if !strings.HasPrefix(inner[i+1:], `\u`) || utf16.DecodeRune(r, unit(i+3)) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}
