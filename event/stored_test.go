package event

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// requireSame holds DecodeBody and ScanBody to what decodeBody says, which does not
// know the shortcut.
func requireSame(t require.TestingT, body []byte) {
	before := string(body)
	want, wantErr := decodeBody(body)
	got, err := DecodeBody(body)
	s, scanErr := ScanBody(body)
	require.Equal(t, wantErr, err, "%q", before)
	require.Equal(t, wantErr, scanErr, "%q", before)
	require.Equal(t, want, got, "%q", before)
	if err == nil {
		require.Equal(t, want.Type, string(s.Type()), "%q", before)
		require.Equal(t, want.StreamID, string(s.StreamID()), "%q", before)
		require.Equal(t, want, s.Event(), "%q", before)
	}
	clear(body)
	require.Equal(t, want, got, "the event of %q shares its memory", before)
}

// storedMembers are what a body is made of: each with what is as AppendBody writes it,
// and what is nearly so, or no member at all.
var storedMembers = [][]string{
	{`"id":"e1"`, `"id":"01a20437-c3b1-7665-a231-78c4a4e36415"`, `"id":""`, `"id":"a\u0062"`, `"id":"é"`, "\"id\":\"\u0085\"", "\"id\":\"\x7f\"", "\"id\":\"\t\"",
		`"id":7`, `"id":"` + strings.Repeat("i", MaxIDLen) + `"`, `"id":"` + strings.Repeat("i", MaxIDLen+1) + `"`, "\"id\":\"\xff\""},
	{`"type":"a.b"`, `"type":"execution.tool_finish"`, `"type":"a"`, `"type":"a."`, `"type":".a"`, `"type":"a..b"`, `"type":"a.b c"`, `"type":"a.é"`, `"type":null`,
		`"type":"1.2.3.4.5.6.7.8"`, `"type":"1.2.3.4.5.6.7.8.9"`, `"type":"a.` + strings.Repeat("b", MaxTypeLen-2) + `"`, `"type":"a.` + strings.Repeat("b", MaxTypeLen-1) + `"`},
	{`"stream_id":"s"`, `"stream_id":"s. é\u0001"`, `"stream_id":"s. é%"`, `"stream_id":""`, `"stream_id":"` + strings.Repeat("s", MaxStreamIDLen+1) + `"`},
	{``, `"causation_id":"e0"`, `"causation_id":""`, `"causation_id":null`, "\"causation_id\":\"\u009f\"", `"causation_id":"` + strings.Repeat("i", MaxIDLen+1) + `"`},
	{`"correlation_id":"c"`, `"correlation_id":""`, `"correlation_id":"\ud800"`, `"correlation_id":"` + strings.Repeat("c", MaxCorrelationLen+1) + `"`},
	{`"actor":"agent/ü"`, `"actor":""`, `"actor":"\"\\"`, `"actor":"` + strings.Repeat("a", MaxActorLen+1) + `"`},
	{`"timestamp":7`, `"timestamp":0`, `"timestamp":1795355693126`, `"timestamp":-1`, `"timestamp":-0`, `"timestamp":07`, `"timestamp":1.0`, `"timestamp":1e3`, `"timestamp":`,
		`"timestamp":999999999999999999`, `"timestamp":9223372036854775807`, `"timestamp":9223372036854775808`, `"timestamp":"7"`},
	{`"payload":{}`, `"payload":{"a":[1,{"b":"\u00e9\\"}],"a":null}`, `"payload":{ "a" : "}" }`, "\"payload\":[1,\n2]", "\"payload\":[1,\r2]", `"payload":"x"`, `"payload":1e400`, `"payload":-0`, `"payload":true`, `"payload":nul`,
		`"payload":01`, `"payload":`, `"payload":"` + "\t" + `"`, `"payload":"\x"`, `"payload":{"a":1,}`, `"payload":[1]]`, `"payload":[{]}`, `"payload":"é` + "\xff" + `"`, "",
		`"payload":` + strings.Repeat("[", storedDepth-1) + strings.Repeat("]", storedDepth-1), `"payload":` + strings.Repeat("[", storedDepth) + strings.Repeat("]", storedDepth)},
	{``, `"metadata":{"m":[]}`, `"metadata":{}`, `"metadata":[]`, `"metadata":null`, `"metadata": {}`, `"metadata":{`},
	{``, `"x":1`, `"":{}`, `"\u0069d":1`, `"id":"e2"`, `"seq":1`, `"chain":"c"`, `"causation_id":""`, `"payload":2`},
	{``, `"guard":"guards.checkpoint.cp_1"`, `"guard":""`, `"guard":"\u0041"`, `"guard":1`, "\"guard\":\"\u0085\x7f\""},
	{``, `"imported":true`, `"imported":false`, `"imported":true1`, `"imported": true`},
}

// genBody gives bodies as they should be, but for a few members.
func genBody() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var members []string
		off := rapid.SliceOfN(rapid.IntRange(0, len(storedMembers)-1), 0, 2).Draw(t, "what may be wrong")
		for i, of := range storedMembers {
			m := rapid.SampledFrom(of[:min(2, len(of))]).Draw(t, "member")
			if i == 9 {
				m = ""
			}
			if slices.Contains(off, i) {
				m = rapid.SampledFrom(of).Draw(t, "near member")
			}
			if m != "" {
				members = append(members, m)
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "in another order") == 0 {
			members = rapid.Permutation(members).Draw(t, "order")
		}
		body := "{" + strings.Join(members, ",") + "}"
		if rapid.IntRange(0, 9).Draw(t, "with a byte") == 0 {
			at := rapid.IntRange(0, len(body)).Draw(t, "at")
			body = body[:at] + rapid.SampledFrom([]string{" ", "\n", "\r", "\t", ",", "}", "{", `"`, `\`, "\x00", "\xff", "0"}).Draw(t, "byte") + body[at:]
		}
		if rapid.IntRange(0, 9).Draw(t, "cut off") == 0 {
			body = body[:rapid.IntRange(0, len(body)).Draw(t, "end")]
		}
		return body
	})
}

func TestShortcutChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { requireSame(t, []byte(genBody().Draw(t, "body"))) })
	for _, of := range storedMembers { // each of them at least once
		for _, m := range of {
			body := "{"
			for i := range storedMembers {
				if i == 9 && &of[0] != &storedMembers[9][0] {
					continue
				}
				one := storedMembers[i][0]
				if &storedMembers[i][0] == &of[0] {
					one = m
				}
				if one != "" {
					body += one + ","
				}
			}
			body = strings.TrimSuffix(body, ",") + "}"
			for _, behind := range []string{"", " ", "}", "{}", "\n", `,"x":1}`} {
				requireSame(t, []byte(body+behind))
			}
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	for i := range 200 {
		f.Add([]byte(genBody().Example(i)))
	}
	file, err := os.Open("../internal/legacy/testdata/durable_stream.jsonl")
	require.NoError(f, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for i := 0; lines.Scan(); i++ {
		if i%40 == 0 && len(lines.Bytes()) < 2000 {
			f.Add(slices.Clone(lines.Bytes()))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { requireSame(t, slices.Clone(body)) })
}

// The shortcut is one only as long as bodies take it.
func TestShortcutIsTaken(t *testing.T) {
	e := Event{ID: NewID(), Type: TaskCreated, StreamID: "ses. é", CorrelationID: NewID(), Actor: "agent/ü",
		Timestamp: Now(), Payload: json.RawMessage(`{"a":"\u00e9"}`)}
	caused, told := e, e
	caused.CausationID = NewID()
	told.Metadata = json.RawMessage(`{"m":1}`)
	for _, r := range []Recorded{{Event: e}, {Event: caused}, {Event: told}, {Event: told, Guard: "guards.checkpoint.cp_1", Imported: true}} {
		body := r.AppendBody(nil)
		s, err := ScanBody(body)
		require.NoError(t, err)
		require.Nil(t, s.event, "%s", body)
		require.Equal(t, r, s.Event())
	}
	body := Recorded{Event: e}.AppendBody(nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if s, err := ScanBody(body); err != nil || len(s.Type()) == 0 || len(s.StreamID()) == 0 {
			panic("the body is not taken")
		}
	}))
}

// Who changes a raw value, or appends to it, changes nothing else.
func TestRawValuesAreApart(t *testing.T) {
	t.Parallel()
	body := []byte(`{"id":"e1","type":"a.b","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1,"payload":{"a":1},"metadata":{"m":2}}`)
	r, err := DecodeBody(body)
	require.NoError(t, err)
	_ = append(r.Payload, "!!!!!!!!!!!!!!!!"...)
	require.Equal(t, `{"m":2}`, string(r.Metadata))
	clear(r.Payload)
	require.Equal(t, `{"m":2}`, string(r.Metadata))
	clear(r.Metadata)
	require.Equal(t, Event{ID: "e1", Type: "a.b", StreamID: "s", CorrelationID: "c", Actor: "a", Timestamp: time.UnixMilli(1), Payload: r.Payload, Metadata: r.Metadata}, r.Event)
}
