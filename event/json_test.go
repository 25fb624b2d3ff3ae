package event_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/longtest"
)

// head is a line's members before the payload.
const head = `"id":"e1","type":"task.created","stream_id":"s1","correlation_id":"c1","actor":"user","timestamp":7`

func mustDecode(t *testing.T, line string) event.Event {
	t.Helper()
	e, err := event.Decode([]byte(line))
	require.NoError(t, err)
	return e
}

func requireInvalid(t *testing.T, err error, field, rule string) {
	t.Helper()
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, field, invalid.Field)
	require.Contains(t, invalid.Rule, rule)
	require.Contains(t, err.Error(), field)
	require.Contains(t, err.Error(), rule)
}

func TestDecodeReadsEveryField(t *testing.T) {
	e := mustDecode(t, ` { "id" : "e1" , "type" : "task.created", "stream_id":"s\u0031", "causation_id":"e0",
		"correlation_id":"c1", "actor":"agent/\"planner\"", "timestamp": 1795355693126 ,"payload":{"a":1},"metadata":{"m":[]} } `)
	require.Equal(t, event.Event{
		ID: "e1", Type: "task.created", StreamID: "s1", CausationID: "e0", CorrelationID: "c1",
		Actor: `agent/"planner"`, Timestamp: time.UnixMilli(1795355693126),
		Payload: json.RawMessage(`{"a":1}`), Metadata: json.RawMessage(`{"m":[]}`),
	}, e)
	require.NoError(t, e.Validate())
	require.Equal(t, int64(1795355693126), e.Milli())
}

func TestUnknownFieldsKeepOrderAndBytes(t *testing.T) {
	line := `{"zeta":1e400,` + head + `,"payload":{},"alpha":{"x":"\u003c"},"":[],"sessionId":"ses","\u0041":null}`
	e := mustDecode(t, line)
	require.Equal(t, []event.Field{
		{Name: "zeta", Value: json.RawMessage(`1e400`)},
		{Name: "alpha", Value: json.RawMessage(`{"x":"\u003c"}`)},
		{Name: "", Value: json.RawMessage(`[]`)},
		{Name: "sessionId", Value: json.RawMessage(`"ses"`)},
		{Name: "A", Value: json.RawMessage(`null`)},
	}, e.Extra)
	require.Equal(t, `{`+head+`,"payload":{},"zeta":1e400,"alpha":{"x":"\u003c"},"":[],"sessionId":"ses","A":null}`, string(e.AppendJSON(nil)))
}

func TestPayloadBytesStay(t *testing.T) {
	for _, payload := range []string{
		`123456789012345678901234567890`, `1e400`, `-0.0`, `1.10`, `9007199254740993`,
		`"<>&"`, `"\u003c\u003e\u0026"`, `"ü😀"`, `"\u00fc\ud83d\ude00"`, "\"\u2028\ufffd\x7f\"", `"\ud800"`, `"\udc00\ud800"`,
		`"\/"`, `"\\ufffd"`, `null`, `false`, `""`, `[]`, `{"a":1,"a":2,"":{}}`, `[[[[[[{"deep":"]}"}]]]]]]`,
		`{"seq":1,"chain":"x","guard":true}`,
	} {
		line := `{` + head + `,"payload":` + payload + `}`
		e := mustDecode(t, line)
		require.Equal(t, payload, string(e.Payload))
		require.NoError(t, e.Validate())
		require.Equal(t, line, string(e.AppendJSON(nil)))
		require.Equal(t, payload, string(event.Compact(e.Payload)))

		r := event.Recorded{Event: e, Seq: 3}
		again, err := event.DecodeRecorded(r.AppendJSON(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
	}
}

func TestCompactTakesWhiteSpaceBetweenTokensOnly(t *testing.T) {
	given := "{ \"a b\" :\t[ 1 , {\r\n \"<\" : \" x  y \\n\" } ] ,\n\"n\": 1E400 }"
	once := event.Compact(json.RawMessage(given))
	require.Equal(t, `{"a b":[1,{"<":" x  y \n"}],"n":1E400}`, string(once))
	require.Equal(t, once, event.Compact(once))
}

func TestDecodeDoesNotShareMemory(t *testing.T) {
	line := []byte(`{` + head + `,"payload":{"a":1},"metadata":{"b":2},"x":"y"}`)
	e, err := event.Decode(line)
	require.NoError(t, err)
	want := string(e.AppendJSON(nil))
	clone := e.Clone()
	for i := range line {
		line[i] = '!'
	}
	require.Equal(t, want, string(e.AppendJSON(nil)))
	e.Payload[0], e.Metadata[0], e.Extra[0].Value[0] = '!', '!', '!'
	require.Equal(t, want, string(clone.AppendJSON(nil)))
}

func TestReservedFieldsAreRefused(t *testing.T) {
	for _, name := range []string{"seq", "guard", "imported", "chain", `\u0073eq`} {
		_, err := event.Decode([]byte(`{"` + name + `":1,` + head + `}`))
		plain := strings.ReplaceAll(name, `\u0073`, "s")
		requireInvalid(t, err, plain, "reserved")
	}
	for _, name := range []string{"seq", "guard", "imported", "chain"} {
		e := mustDecode(t, `{`+head+`,"payload":{}}`)
		e.Extra = []event.Field{{Name: name, Value: json.RawMessage(`1`)}}
		requireInvalid(t, e.Validate(), name, "reserved")
	}
}

func TestFieldsGivenTwiceAreRefused(t *testing.T) {
	for _, again := range []string{`"id":"e2"`, `"\u0069d":"e1"`, `"timestamp":8`, `"actor":"user"`} {
		_, err := event.Decode([]byte(`{` + head + `,` + again + `}`))
		require.ErrorContains(t, err, "is given twice")
	}
	_, err := event.Decode([]byte(`{` + head + `,"x":1,"y":2,"x":1}`))
	requireInvalid(t, err, "x", "is given twice")
	_, err = event.Decode([]byte(`{` + head + `,"causation_id":null,"causation_id":"e0"}`))
	requireInvalid(t, err, "causation_id", "is given twice")

	e := mustDecode(t, `{`+head+`,"payload":{},"x":1}`)
	e.Extra = append(e.Extra, e.Extra[0])
	requireInvalid(t, e.Validate(), "x", "is given twice")
	for _, name := range []string{"payload", "causation_id"} {
		e.Extra = []event.Field{{Name: name, Value: json.RawMessage(`1`)}}
		requireInvalid(t, e.Validate(), name, "is given twice")
	}
}

// A line of very many fields is read in good time, and a repeat among them found.
func TestManyFields(t *testing.T) {
	many := longtest.Pick(60_000, 300_000)
	var b strings.Builder
	b.WriteString(`{` + head)
	for i := range many {
		fmt.Fprintf(&b, `,"f%d":1`, i)
	}
	start := time.Now()
	e := mustDecode(t, b.String()+`,"payload":{}}`)
	require.Len(t, e.Extra, many)
	require.NoError(t, e.Validate())
	require.Less(t, time.Since(start), 20*time.Second, "the search for repeats is quadratic again")

	for _, again := range []string{"f0", "f31", "f32", fmt.Sprint("f", many-1)} {
		_, err := event.Decode([]byte(b.String() + `,"` + again + `":2}`))
		requireInvalid(t, err, again, "is given twice")
	}
}

func TestHalfSurrogates(t *testing.T) {
	for _, s := range []string{
		`\ud800`, `\uD83D`, `\ude00`, `\ude00\ud83d`, `a\ud83d\u0041`, `\ud83d\ud83d\ude00`, `\ud83d\\ude00`, `\\ufffd\ud800`, "\ufffd\\ud800", `\ufffd\udc00`,
	} {
		for _, field := range []string{"id", "type", "stream_id", "causation_id", "correlation_id", "actor"} {
			_, err := event.Decode([]byte(`{"` + field + `":"` + s + `"}`))
			requireInvalid(t, err, field, "half of a surrogate pair")
		}
		_, err := event.Decode([]byte(`{"x` + s + `":1}`))
		requireInvalid(t, err, "field name", "half of a surrogate pair")
		e := mustDecode(t, `{`+head+`,"payload":"`+s+`","x":"`+s+`"}`)
		require.Equal(t, `"`+s+`"`, string(e.Payload))
		require.Equal(t, `"`+s+`"`, string(e.Extra[0].Value))
	}
	for s, want := range map[string]string{
		`\ud83d\ude00`: "😀", `\uD83D\uDE00!`: "😀!", `\\ud800`: `\ud800`, `\ufffd`: "\ufffd", `\\\ufffd\n`: "\\\ufffd\n",
	} {
		require.Equal(t, want, mustDecode(t, `{"actor":"`+s+`"}`).Actor)
	}
}

func TestNoCausationSurvives(t *testing.T) {
	for _, none := range []string{`null`, `""`} {
		line := `{` + head + `,"payload":{},"causation_id":` + none + `}`
		e := mustDecode(t, line)
		require.Empty(t, e.CausationID)
		require.NoError(t, e.Validate())
		require.Equal(t, line, string(e.AppendJSON(nil)))
		back, err := event.DecodeBody(event.Recorded{Event: e}.AppendBody(nil))
		require.NoError(t, err)
		require.Equal(t, e, back.Event)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ line, field, rule string }{
		{``, "line", "one JSON object"},
		{`{`, "line", "one JSON object"},
		{`[]`, "line", "one JSON object"},
		{`"text"`, "line", "one JSON object"},
		{`null`, "line", "one JSON object"},
		{`{} {}`, "line", "one JSON object"},
		{"{\"x\":\"\xff\"}", "line", "valid UTF-8"},
		{`{"id":7}`, "id", "JSON string"},
		{`{"type":null}`, "type", "JSON string"},
		{`{"stream_id":["s"]}`, "stream_id", "JSON string"},
		{`{"causation_id":0}`, "causation_id", "JSON string"},
		{`{"timestamp":"7"}`, "timestamp", "whole milliseconds"},
		{`{"timestamp":7.5}`, "timestamp", "whole milliseconds"},
		{`{"timestamp":1e3}`, "timestamp", "whole milliseconds"},
		{`{"timestamp":99999999999999999999}`, "timestamp", "whole milliseconds"},
		{`{"timestamp":null}`, "timestamp", "whole milliseconds"},
		{`{"metadata":[]}`, "metadata", "JSON object"},
		{`{"metadata":null}`, "metadata", "JSON object"},
	} {
		_, err := event.Decode([]byte(c.line))
		requireInvalid(t, err, c.field, c.rule)
		require.Error(t, new(event.Event).UnmarshalJSON([]byte(c.line)), c.line)
	}
}

func TestDecodeBodyRefuses(t *testing.T) {
	for _, c := range []struct{ line, field, rule string }{
		{"{" + head + ",\n\"payload\":{}}", "body", "one line"},
		{`{` + head + `}`, "payload", "must be there"},
		{`{` + head + `,"payload":{},"seq":1}`, "seq", "does not belong"},
		{`{` + head + `,"payload":{},"chain":"x"}`, "chain", "does not belong"},
		{`{` + head + `,"payload":{},"imported":false}`, "imported", "must be true"},
		{`{` + head + `,"payload":{},"guard":1}`, "guard", "JSON string"},
		{`{"payload":{}}`, "id", "must not be empty"},
	} {
		_, err := event.DecodeBody([]byte(c.line))
		requireInvalid(t, err, c.field, c.rule)
	}
}

func TestDecodeRecordedRefuses(t *testing.T) {
	for _, c := range []struct{ line, field, rule string }{
		{`{` + head + `,"payload":{}}`, "seq", "not written by a Log"},
		{`{"seq":0,` + head + `,"payload":{}}`, "seq", "from 1"},
		{`{"seq":-1,` + head + `,"payload":{}}`, "seq", "from 1"},
		{`{"seq":"1",` + head + `,"payload":{}}`, "seq", "from 1"},
		{`{"seq":18446744073709551616,` + head + `,"payload":{}}`, "seq", "from 1"},
		{`{"seq":1,"seq":2,` + head + `,"payload":{}}`, "seq", "given twice"},
		{`{"seq":1,` + head + `}`, "payload", "must be there"},
		{`{"seq":1,` + head + `,"payload":{},"imported":1}`, "imported", "must be true"},
	} {
		_, err := event.DecodeRecorded([]byte(c.line))
		requireInvalid(t, err, c.field, c.rule)
	}
}

func TestRecordedLine(t *testing.T) {
	line := `{"seq":18446744073709551615,` + head + `,"payload":[1,"<"],"x":1,"guard":"guards.checkpoint.cp_1","imported":true}`
	r, err := event.DecodeRecorded([]byte(line))
	require.NoError(t, err)
	require.Equal(t, event.Sequence(1<<64-1), r.Seq)
	require.Equal(t, "guards.checkpoint.cp_1", r.Guard)
	require.True(t, r.Imported)
	require.Equal(t, line, string(r.AppendJSON(nil)))

	withChain := strings.TrimSuffix(line, "}") + `,"chain":"abc"}`
	again, err := event.DecodeRecorded([]byte(withChain))
	require.NoError(t, err)
	require.Equal(t, r, again, "the chain is the mirror's, and passed over")
}

func TestMarshalJSON(t *testing.T) {
	r := event.Recorded{Event: mustDecode(t, `{`+head+`,"payload":{"a":1},"x":2}`), Seq: 5, Imported: true}
	b, err := json.Marshal(map[string]any{"r": r, "e": r.Event})
	require.NoError(t, err)
	var back struct {
		R event.Recorded
		E event.Event
	}
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, r, back.R)
	require.Equal(t, r.Event, back.E)
}

func TestEveryValidEventComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecorded().Draw(t, "recorded")
		require.NoError(t, r.Validate())

		line := r.AppendJSON(nil)
		got, err := event.DecodeRecorded(line)
		require.NoError(t, err)
		require.Equal(t, r, got)

		body := r.AppendBody(nil)
		got, err = event.DecodeBody(body)
		require.NoError(t, err)
		got.Seq = r.Seq
		require.Equal(t, r, got)
		require.True(t, json.Valid(body))
		require.Equal(t, string(event.Compact(body)), string(body), "a compact event makes a compact body")

		e, err := event.Decode(r.Event.AppendJSON(nil))
		require.NoError(t, err)
		require.Equal(t, r.Event, e)
	})
}
