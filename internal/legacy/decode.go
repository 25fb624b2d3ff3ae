package legacy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"durablestream/event"
)

// What stands in for a field that the original did not write.
const (
	noStream = "legacy"
	noActor  = "unknown"
	noID     = "legacy-" // and the SHA-256 of the line, so that a repeat finds it
)

// IsLegacy reports whether a file whose first line this is was written by the
// original module: its line is a JSON object, and has no chain as our mirror's do.
func IsLegacy(firstLine []byte) bool {
	members, ok := topLevel(bytes.TrimPrefix(firstLine, []byte("\ufeff")))
	_, chained := members["chain"]
	return ok && !chained
}

// decode reads a line as the original wrote it. fixed names what was filled in.
func decode(line []byte) (e event.Event, fixed []string, err error) {
	e, err = event.Decode(line)
	noMetadata := false
	if err != nil || e.Timestamp.IsZero() {
		// Rare, so that only these lines are parsed twice.
		members, _ := topLevel(line)
		if has(members, "seq") && has(members, "chain") {
			return e, nil, ErrMirrorLine
		}
		if err != nil {
			if e, err = withoutNulls(line, err); err != nil {
				return e, nil, err
			}
			noMetadata = string(members["metadata"]) == "null"
		}
		if !has(members, "timestamp") {
			return e, nil, &event.InvalidError{Field: "timestamp", Rule: "must be there: nothing else in the line says when it was"}
		}
	}
	if fixed = fill(&e, line); noMetadata {
		fixed = append(fixed, "metadata")
	}
	e.Payload = event.Compact(e.Payload)
	if e.Metadata != nil {
		e.Metadata = event.Compact(e.Metadata)
	}
	for i := range e.Extra {
		e.Extra[i].Value = event.Compact(e.Extra[i].Value)
	}
	return e, fixed, e.Validate()
}

// fill fills in what is missing. Each choice keeps the event findable: under its
// run if it names no session, and the other way round.
func fill(e *event.Event, line []byte) (fixed []string) {
	set := func(field string, to *string, value string) {
		if *to == "" {
			*to = value
			fixed = append(fixed, field)
		}
	}
	stream, correlation := e.StreamID, e.CorrelationID
	if stream == "" && correlation == "" {
		stream, correlation = noStream, noStream
	}
	if e.ID == "" {
		sum := sha256.Sum256(line)
		set("id", &e.ID, noID+hex.EncodeToString(sum[:]))
	}
	set("stream_id", &e.StreamID, correlation)
	set("correlation_id", &e.CorrelationID, stream)
	set("actor", &e.Actor, noActor)
	if len(e.Payload) == 0 {
		e.Payload = json.RawMessage(`{}`)
		fixed = append(fixed, "payload")
	}
	return fixed
}

// withoutNulls decodes again a line that was refused with err because a field that
// may be missing is null, which means the same.
func withoutNulls(line []byte, err error) (event.Event, error) {
	var invalid *event.InvalidError
	for errors.As(err, &invalid) && invalid.Value == "null" {
		switch invalid.Field {
		case "id", "stream_id", "correlation_id", "actor", "metadata":
		default:
			return event.Event{}, err
		}
		var cut bool
		if line, cut = cutNull(line, invalid.Field); !cut {
			return event.Event{}, err
		}
		var e event.Event
		if e, err = event.Decode(line); err == nil {
			return e, nil
		}
	}
	return event.Event{}, err
}

// cutNull copies a JSON object without the one top-level member that is called
// name; the others keep their bytes. A member that is given twice is left for
// event.Decode to refuse.
func cutNull(line []byte, name string) (out []byte, cut bool) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil { // {
		return line, false
	}
	seen := 0
	out = []byte("{")
	for dec.More() {
		start := dec.InputOffset()
		key, err := dec.Token()
		if err != nil {
			return line, false
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return line, false
		}
		if key == name {
			seen++
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, bytes.TrimLeft(line[start:dec.InputOffset()], ", \t\r\n")...)
	}
	return append(out, '}'), seen == 1
}

// topLevel splits a line into its members.
func topLevel(line []byte) (members map[string]json.RawMessage, ok bool) {
	err := json.Unmarshal(line, &members)
	return members, err == nil && members != nil
}

func has(members map[string]json.RawMessage, name string) bool {
	_, ok := members[name]
	return ok
}
