package event_test

import (
	"encoding/json"
	"strings"

	"pgregory.net/rapid"

	"durablestream/event"
)

// The generators of valid events. They lean towards what decoding could get wrong:
// escapes, surrogates, numbers that no float64 holds, names that need quoting.

// rawStrings are insides of JSON strings, as they stand in a line.
var rawStrings = []string{
	``, `a`, ` `, `ü`, `😀`, `<>&`, `\u003c`, `\ud83d\ude00`, `\uD800`, `\udfff x`, `\"`, `\\`, `\\ufffd`, `\/`,
	`\n`, `\u0000`, "\u2028", "\ufffd", "\x7f", `{`, `]`, `,`, `:`,
}

func genRawString() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom(rawStrings), 0, 4), func(s []string) string {
		return `"` + strings.Join(s, "") + `"`
	})
}

// genRaw gives one compact JSON value.
func genRaw(depth int) *rapid.Generator[string] {
	leaf := rapid.OneOf(genRawString(), rapid.SampledFrom([]string{
		"null", "true", "false", "0", "-0", "1.0", "1e400", "-1E-400", "123456789012345678901234567890", "9007199254740993",
	}))
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf, genRawObject(depth-1), rapid.Map(
		rapid.SliceOfN(genRaw(depth-1), 0, 3),
		func(vs []string) string { return "[" + strings.Join(vs, ",") + "]" }))
}

// genRawObject gives an object whose names may repeat: inside a payload that is
// the writer's business.
func genRawObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var members []string
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			members = append(members, genRawString().Draw(t, "name")+":"+genRaw(depth).Draw(t, "value"))
		}
		return "{" + strings.Join(members, ",") + "}"
	})
}

func genText(most int) *rapid.Generator[string] { return rapid.StringN(1, most/4, most) }

func genID() *rapid.Generator[string] {
	return genText(event.MaxIDLen).Filter(func(s string) bool { return event.ValidateID("id", s) == nil })
}

func genType() *rapid.Generator[string] {
	return rapid.StringMatching(`[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){1,7}`)
}

func genExtra(causation bool) *rapid.Generator[[]event.Field] {
	return rapid.Custom(func(t *rapid.T) []event.Field {
		names := rapid.SliceOfNDistinct(
			rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "Seq", "sessionId", "id ", `"`, `\`, "<&>"})),
			0, 4, rapid.ID[string]).Draw(t, "names")
		var out []event.Field
		for _, n := range names {
			f := event.Field{Name: n, Value: json.RawMessage(genRaw(1).Draw(t, "value"))}
			if (event.Event{ID: "i", Type: "a.b", StreamID: "s", CorrelationID: "c", Actor: "a",
				Payload: json.RawMessage("{}"), Extra: []event.Field{f}}).Validate() == nil {
				out = append(out, f)
			}
		}
		if !causation && rapid.Bool().Draw(t, "says that nothing caused it") {
			none := rapid.SampledFrom([]string{"null", `""`}).Draw(t, "none")
			out = append(out, event.Field{Name: "causation_id", Value: json.RawMessage(none)})
		}
		return out
	})
}

// genEvent gives valid events in compact form.
func genEvent() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := event.Event{
			ID:            genID().Draw(t, "id"),
			Type:          genType().Draw(t, "type"),
			StreamID:      genText(event.MaxStreamIDLen).Draw(t, "stream_id"),
			CorrelationID: genText(event.MaxCorrelationLen).Draw(t, "correlation_id"),
			Actor:         genText(event.MaxActorLen).Draw(t, "actor"),
			Timestamp:     event.Milli(rapid.Int64Min(0).Draw(t, "timestamp")).Time,
			Payload:       json.RawMessage(genRaw(3).Draw(t, "payload")),
		}
		if rapid.Bool().Draw(t, "caused") {
			e.CausationID = genID().Draw(t, "causation_id")
		}
		if rapid.Bool().Draw(t, "has metadata") {
			e.Metadata = json.RawMessage(genRawObject(1).Draw(t, "metadata"))
		}
		e.Extra = genExtra(e.CausationID != "").Draw(t, "extra")
		return e
	})
}

func genRecorded() *rapid.Generator[event.Recorded] {
	return rapid.Custom(func(t *rapid.T) event.Recorded {
		r := event.Recorded{
			Event:    genEvent().Draw(t, "event"),
			Seq:      event.Sequence(rapid.Uint64Min(1).Draw(t, "seq")),
			Imported: rapid.Bool().Draw(t, "imported"),
		}
		if rapid.Bool().Draw(t, "guarded") {
			r.Guard = "guards." + genText(40).Draw(t, "guard")
		}
		return r
	})
}
