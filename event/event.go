// Package event defines the terms of the Log: an event to append (Event), an event in the
// Log (Recorded), its position (Sequence), and a reader's selection of events (Filter).
//
// The JSON keys are those of the original TypeScript module, so that its files and its
// readers stay valid. Payloads, metadata and unknown fields keep their exact bytes; only
// white space between JSON tokens is removed, once, when an event is appended.
package event

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The limits of the fields, in bytes unless stated otherwise.
const (
	MaxTypeLen        = 200
	MinTypeTokens     = 2
	MaxTypeTokens     = 8
	MaxStreamIDLen    = 512
	MaxIDLen          = 256
	MaxActorLen       = 1024
	MaxCorrelationLen = 1024
	MaxBatchLen       = 999 // events in one AppendBatch

	// MaxDepth is the maximum nesting of objects and arrays in an event, including the
	// event's own object: a payload has one level less. JSON readers have limits of their
	// own (Go's encoding/json: 10,000), and answers wrap the event in further levels.
	MaxDepth = 1000
)

// reserved are the top-level names that only the Log writes.
var reserved = []string{"seq", "guard", "imported", "chain"}

// Event is an event to append.
type Event struct {
	// ID names the event, at most 256 bytes without control characters. If empty, Append
	// creates a UUIDv7. A second append with the same ID within the Log's duplicate
	// window stores nothing new.
	ID string
	// Type is 2 to 8 tokens of [A-Za-z0-9_-]+ joined by dots, at most 200 bytes.
	Type string
	// StreamID is the session or task that the event belongs to: 1 to 512 bytes
	// of UTF-8.
	StreamID string
	// CausationID is the ID of the event that caused this one; optional.
	CausationID string
	// CorrelationID groups the events of one run. If empty, Append uses the client's own.
	CorrelationID string
	// Actor names the person or agent that acted: "user", or an agent's name such as
	// "agent/planner".
	Actor string
	// Timestamp is the time of the event by its writer's clock, of which the Log keeps whole
	// milliseconds. If zero, Append uses the current time. The Log is ordered by Sequence,
	// never by Timestamp.
	Timestamp time.Time
	// Payload is any JSON value. Nil: {}.
	Payload json.RawMessage
	// Metadata is a JSON object, or nil for none.
	Metadata json.RawMessage
	// Extra holds top-level fields that this version does not know, in the order
	// in which they came.
	Extra []Field
}

// Field is one top-level JSON member with its exact bytes.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Recorded is an event with its place in the Log.
type Recorded struct {
	Event
	// Seq is the position in the Log.
	Seq Sequence
	// Guard is the subject of the guard that protects the event, such as
	// "guards.checkpoint.cp_1"; empty for most events.
	Guard string
	// Imported is true for events that came from a file of the original module.
	Imported bool
}

// NewID creates a UUIDv7: unique, and ascending with time.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// NewIDs creates n IDs, as NewID does.
func NewIDs(n int) []string {
	random := make([]byte, n*len(uuid.UUID{})) // read at once: each read is a call of the system
	_, _ = rand.Read(random)                   // never an error
	from := bytes.NewReader(random)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7FromReader(from)).String()
	}
	return ids
}

// Milli is the Timestamp in Unix milliseconds, as the Log stores it; 0 for a zero Timestamp.
func (e Event) Milli() int64 { return Time{e.Timestamp}.Milli() }

// Now is the current time as a Timestamp: in whole milliseconds.
func Now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

// Clone returns a copy that shares no memory with e.
func (e Event) Clone() Event {
	e.Payload = slices.Clone(e.Payload)
	e.Metadata = slices.Clone(e.Metadata)
	e.Extra = slices.Clone(e.Extra)
	for i := range e.Extra {
		e.Extra[i].Value = slices.Clone(e.Extra[i].Value)
	}
	return e
}

// Validate checks every field of an event before an append. It returns an *InvalidError
// that names the first invalid field.
func (e Event) Validate() error {
	if err := e.validateNames(); err != nil {
		return err
	}
	if err := ValidateJSON("payload", e.Payload, 1); err != nil {
		return err
	}
	if e.Metadata != nil {
		if err := ValidateJSON("metadata", e.Metadata, 1); err != nil {
			return err
		}
		if !isObject(e.Metadata) {
			return &InvalidError{"metadata", string(e.Metadata), "must be a JSON object, or left out"}
		}
	}
	return e.validateExtra()
}

// validateNames checks all that is not raw JSON.
func (e Event) validateNames() error {
	if err := ValidateID("id", e.ID); err != nil {
		return err
	}
	if err := ValidateType(e.Type); err != nil {
		return err
	}
	if err := ValidateStreamID(e.StreamID); err != nil {
		return err
	}
	if e.CausationID != "" {
		if err := ValidateID("causation_id", e.CausationID); err != nil {
			return err
		}
	}
	if err := validateText("correlation_id", e.CorrelationID, MaxCorrelationLen); err != nil {
		return err
	}
	if err := validateText("actor", e.Actor, MaxActorLen); err != nil {
		return err
	}
	if ms := e.Milli(); ms < 0 {
		return &InvalidError{"timestamp", strconv.FormatInt(ms, 10), "must be Unix time in milliseconds, 0 or later"}
	}
	return nil
}

func (e Event) validateExtra() error {
	var seen names
	for _, f := range e.Extra {
		if slices.Contains(reserved, f.Name) {
			return &InvalidError{f.Name, string(f.Value), "is a reserved field: the Log writes it itself; leave it out"}
		}
		if !utf8.ValidString(f.Name) {
			return &InvalidError{"field name", f.Name, "must be valid UTF-8"}
		}
		if err := ValidateJSON(f.Name, f.Value, 1); err != nil {
			return err
		}
		known := slices.Contains(known, f.Name) && !(f.Name == "causation_id" && e.CausationID == "" && saysNone(f.Value))
		if known || !seen.add(f.Name) {
			return &InvalidError{f.Name, string(f.Value), "is given twice"}
		}
	}
	return nil
}

// ValidateType checks the rule of Event.Type.
func ValidateType(t string) error {
	if len(t) > MaxTypeLen {
		return &InvalidError{"type", t, "must be at most 200 bytes"}
	}
	if tokens := strings.Count(t, ".") + 1; tokens < MinTypeTokens || tokens > MaxTypeTokens {
		return &InvalidError{"type", t, `must be 2 to 8 tokens joined by dots, such as "task.created"`}
	}
	for tok := range strings.SplitSeq(t, ".") {
		if !isTypeToken(tok) {
			return &InvalidError{"type", t, "each token between dots must be one or more of A-Z a-z 0-9 _ -"}
		}
	}
	return nil
}

func isTypeToken(tok string) bool {
	for _, c := range []byte(tok) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
		if !ok {
			return false
		}
	}
	return tok != ""
}

// ValidateStreamID checks the rule of Event.StreamID.
func ValidateStreamID(s string) error { return validateText("stream_id", s, MaxStreamIDLen) }

// ValidateID checks the rule of Event.ID for the field of that name.
func ValidateID(field, id string) error {
	if err := validateText(field, id, MaxIDLen); err != nil {
		return err
	}
	for _, r := range id {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return &InvalidError{field, id, "must not hold control characters"}
		}
	}
	return nil
}

func validateText(field, s string, most int) error {
	switch {
	case s == "":
		return &InvalidError{field, s, "must not be empty"}
	case len(s) > most:
		return &InvalidError{field, s, "must be at most " + Sequence(most).String() + " bytes"}
	case !utf8.ValidString(s):
		return &InvalidError{field, s, "must be valid UTF-8"}
	}
	return nil
}

// ValidateJSON checks that v is valid JSON for an event, nested inside the given number
// of objects and arrays, including the event's own. field names v in the *InvalidError.
func ValidateJSON(field string, v json.RawMessage, inside int) error {
	most := MaxDepth - inside
	switch {
	case !utf8.Valid(v):
		return &InvalidError{field, string(v), "must be valid UTF-8"}
	case valid(v, most):
		return nil
	case valid(v, storedDepth):
		return tooDeep(field, v, most)
	}
	return &InvalidError{field, string(v), "must be JSON"}
}

func tooDeep(field string, v []byte, most int) error {
	return &InvalidError{field, string(v), fmt.Sprintf("must be nested at most %d levels deep", most)}
}

func isObject(v json.RawMessage) bool {
	i := skipSpace(v, 0)
	return i < len(v) && v[i] == '{'
}
