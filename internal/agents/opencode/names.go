package opencode

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// prefix is the first token of the types that keep bus events as they are.
const prefix = name + "."

// typeName makes a valid type of a bus event's type: "session.diff" is
// "opencode.session.diff". Bytes that a type cannot hold become "_", tokens that are
// too many are joined by "_", and what is too long is cut and gets a hash.
func typeName(bus string) string {
	tokens := strings.Split(bus, ".")
	if most := event.MaxTypeTokens - 1; len(tokens) > most {
		tokens = append(tokens[:most-1:most-1], strings.Join(tokens[most-1:], "_"))
	}
	for i, tok := range tokens {
		tokens[i] = cmp.Or(strings.Map(typeRune, tok), "_")
	}
	name := prefix + strings.Join(tokens, ".")
	if len(name) > event.MaxTypeLen {
		cut := event.MaxTypeLen - 20
		name = strings.TrimRight(name[:cut], ".") + "_" + digest([]byte(bus))[:16]
	}
	return name
}

func typeRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
		return r
	}
	return '_'
}

// derived is the id of an event that is not a bus event itself: what it is about,
// and the rest that tells it from others about the same.
func derived(about, rest string) string {
	id := about + "." + rest
	if about == "" || event.ValidateID("id", id) != nil {
		return "oc_" + digest([]byte(about))[:32] + "." + rest
	}
	return id
}

// busTime is when OpenCode made an event. Its id holds the lower 36 bits of the Unix
// milliseconds (12 hex digits, of which the last 3 count); now gives the rest. An
// id that says nothing near now (a month before, an hour after) is not believed.
func busTime(id string, now time.Time) int64 {
	ms := now.UnixMilli()
	digits, ok := strings.CutPrefix(id, "evt_")
	if !ok || len(digits) < 12 {
		return max(ms, 0)
	}
	n, err := strconv.ParseUint(digits[:12], 16, 64)
	if err != nil {
		return max(ms, 0)
	}
	const wrap = int64(1) << 36
	at := ms - ms%wrap + int64(n>>12)
	if at-ms > wrap/2 {
		at -= wrap
	} else if ms-at > wrap/2 {
		at += wrap
	}
	if at < 0 || at-ms > time.Hour.Milliseconds() || ms-at > 30*24*time.Hour.Milliseconds() {
		return max(ms, 0)
	}
	return at
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// text is b as a JSON string.
func text(b []byte) json.RawMessage { return marshal(string(b)) }

// marshal is event.Marshal. Its arguments consist of strings, numbers and valid JSON, and
// so it cannot fail.
func marshal(v any) json.RawMessage {
	b, err := event.Marshal(v)
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}

// withField puts one more field in front of a JSON object.
func withField(object json.RawMessage, name string, value any) json.RawMessage {
	rest := bytes.TrimSpace(object)
	if len(rest) < 2 || rest[0] != '{' {
		return object
	}
	rest = bytes.TrimSpace(rest[1:])
	out := append([]byte{'{'}, marshal(name)...)
	out = append(append(out, ':'), marshal(value)...)
	if rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, rest...)
}

// read decodes into v and reports whether b had that shape.
func read(b json.RawMessage, v any) bool { return json.Unmarshal(b, v) == nil }

func isObject(b json.RawMessage) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

// instance is the run of OpenCode that an event came from; empty where none is named.
func instance(r event.Recorded) string { return source.Instance(name, r) }

// toolCall is the model's call of the plugin's tool by which a checkpoint was asked for;
// empty where it was not.
func toolCall(r event.Recorded) string { return source.Call(name, r) }

// decisionUsed is the type of the event that says to which question a decision was given.
var decisionUsed = source.DecisionUsed(name)
