package wire

import (
	"encoding/json"
	"strings"

	"durablestream/event"
)

// GuardSubject gives guards.<kind>.<id token>.
func GuardSubject(kind, id string) string { return Guards + "." + kind + "." + Token(id) }

// GuardFilter gives guards.<kind>.*, which takes all guards of a kind.
func GuardFilter(kind string) string { return Guards + "." + kind + ".*" }

// ParseGuardSubject is the inverse of GuardSubject.
func ParseGuardSubject(subject string) (kind, id string, ok bool) {
	rest, ok := strings.CutPrefix(subject, Guards+".")
	kind, tok, ok2 := strings.Cut(rest, ".")
	id, err := ParseToken(tok)
	if !ok || !ok2 || err != nil {
		return "", "", false
	}
	return kind, id, true
}

// IsGuard reports whether a subject is a guard's.
func IsGuard(subject string) bool { return strings.HasPrefix(subject, Guards+".") }

// GuardBody is the body of a guard message.
type GuardBody struct {
	// Event is the ID of the event that the guard was written with.
	Event string `json:"event,omitempty"`
	// Type is that event's type.
	Type string `json:"type,omitempty"`
	// State is the intent's state, on guards of kind intent.
	State string `json:"state,omitempty"`
	// Holder and Lease, in ms, are of a claim. Lease 0: it does not run out.
	Holder string `json:"holder,omitempty"`
	Lease  int64  `json:"lease_ms,omitempty"`
	// Data is a caller's own, on guards of kind user.
	Data json.RawMessage `json:"data,omitempty"`
}

// Encode gives the guard's message body.
func (b GuardBody) Encode() []byte {
	out, err := json.Marshal(b)
	if err != nil { // strings, a number, and JSON that was checked
		panic(err)
	}
	return out
}

// Protected returns the guard that protects an event of a known kind, and the guard's
// body. Both follow from the event alone, so that a restore from the mirror's lines
// writes the same guards again. ok is false for events that need no guard, and for
// payloads that name no guard.
func Protected(e event.Event) (subject string, body GuardBody, ok bool) {
	kind, key, state := protects(e.Type)
	if kind == "" {
		return "", GuardBody{}, false
	}
	id := payloadString(e.Payload, key)
	if id == "" {
		return "", GuardBody{}, false
	}
	return GuardSubject(kind, id), GuardBody{Event: e.ID, Type: e.Type, State: state}, true
}

// protects gives the kind of guard that a type stands behind, the payload's member
// that names the guard's id, and the state that it gives to an intent; "" for types
// that need no guard.
func protects(typ string) (kind, key, state string) {
	switch {
	case typ == event.CheckpointRequested:
		return event.GuardRequest, "id", ""
	case event.IsDecision(typ), typ == event.CheckpointGuardVoided:
		return event.GuardCheckpoint, "checkpoint_id", ""
	case typ == event.AgentSpawned:
		return event.GuardIntent, "id", event.StateCreated
	case event.EndsIntent(typ):
		return event.GuardIntent, "intent_id", event.StateEnded
	}
	return "", "", ""
}

// CheckProtected refuses an event whose payload names a guard that no subject can hold:
// the server closes the connection of a client that sends such a subject.
func CheckProtected(e event.Event) error {
	kind, key, _ := protects(e.Type)
	if kind == "" {
		return nil
	}
	id := payloadString(e.Payload, key)
	if id == "" {
		return nil
	}
	return event.ValidateID("payload."+key, id)
}

// payloadString reads one string member of a payload; "" where there is none.
func payloadString(payload json.RawMessage, key string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil {
		return ""
	}
	var s string
	if json.Unmarshal(members[key], &s) != nil {
		return ""
	}
	return s
}

// DecisionGuards are the subjects of all guards of requests, decisions and intents: their
// state determines what may still happen.
func DecisionGuards() []string {
	return []string{
		GuardFilter(event.GuardRequest),
		GuardFilter(event.GuardCheckpoint),
		GuardFilter(event.GuardIntent),
	}
}

// GuardIsFinal reports whether no message may follow this one on its guard: there is one
// request, one decision, and one end of an intent.
func GuardIsFinal(subject string, body []byte) bool {
	kind, _, _ := ParseGuardSubject(subject)
	if kind != event.GuardIntent {
		return true
	}
	var b GuardBody
	return json.Unmarshal(body, &b) == nil && b.State == event.StateEnded
}
