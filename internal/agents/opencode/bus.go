// Package opencode turns the events of OpenCode's bus into events of the log, and
// tells from a log what a crash of OpenCode left behind.
//
// It is pure: a Translator is fed bus events and the time, and gives back what is
// to be stored, asked and decided; nobody is called. Each bus event that is not a
// piece of streaming text is in the log under OpenCode's own event id, unless it
// says again what is there already; docs/opencode.md has the whole table.
//
// Why nothing is stored twice: an event's id is OpenCode's, or is made from the id
// of the part, call or checkpoint that it is about and from what it says. So a
// replay, a second process and a retry give the same ids, and the log keeps one.
package opencode

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// BusEvent is one event of OpenCode's bus.
type BusEvent struct {
	ID         string          `json:"id"` // "evt_…", unique and ascending
	Type       string          `json:"type"`
	Properties json.RawMessage `json:"properties"`

	// line is all of it, kept where Properties is missing.
	line json.RawMessage
}

// Parse reads a bus event as OpenCode writes it. It refuses nothing: what is not a
// bus event comes back without a type, and is kept as "opencode.unreadable".
// Bytes that are not UTF-8 are replaced. The event shares no memory with line.
func Parse(line []byte) BusEvent {
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	var e BusEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return BusEvent{line: text(line)}
	}
	if e.Type == "" || e.Properties == nil {
		e.line = json.RawMessage(bytes.Clone(line))
	}
	return e
}
