package legacy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/legacy"
)

const good = `{"type":"task.created","stream_id":"s1","correlation_id":"c1","actor":"user","payload":{"a":1},"id":"e1","timestamp":7}`

func read(t *testing.T, content string) []legacy.Line {
	t.Helper()
	return readFrom(t, strings.NewReader(content))
}

func readFrom(t *testing.T, r io.Reader) (out []legacy.Line) {
	t.Helper()
	for l, err := range legacy.Read(r, "f.jsonl") {
		require.NoError(t, err)
		require.Equal(t, "f.jsonl", l.File)
		out = append(out, l)
	}
	return out
}

// one reads a file of one line, without a newline.
func one(t *testing.T, line string) legacy.Line {
	t.Helper()
	lines := read(t, line+"\n")
	require.Len(t, lines, 1)
	return lines[0]
}

func requireDamaged(t *testing.T, l legacy.Line, number int, why string) {
	t.Helper()
	var le *legacy.LineError
	require.ErrorAs(t, l.Err, &le)
	require.Equal(t, number, l.Number)
	require.Equal(t, number, le.Line)
	require.Equal(t, "f.jsonl", le.File)
	require.ErrorContains(t, l.Err, fmt.Sprintf("f.jsonl line %d: ", number))
	require.ErrorContains(t, l.Err, why)
	require.Equal(t, event.Event{}, l.Event)
	require.Empty(t, l.Fixed)
}

// The file that the original module wrote: every event, in order, every field and
// every payload byte as it was.
func TestReadTheRealFile(t *testing.T) {
	raw, err := os.ReadFile("testdata/durable_stream.jsonl")
	require.NoError(t, err)
	var expected struct {
		EventsReplayed int   `json:"events_replayed"`
		LastEventAt    int64 `json:"last_event_at"`
	}
	b, err := os.ReadFile("testdata/expected.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &expected))

	input := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	require.True(t, legacy.IsLegacy([]byte(input[0])))
	lines := readFrom(t, iotest.HalfReader(bytes.NewReader(raw)))
	require.Len(t, lines, expected.EventsReplayed)
	require.Len(t, lines, len(input))
	for i, l := range lines {
		require.NoError(t, l.Err)
		require.Empty(t, l.Fixed)
		require.Equal(t, i+1, l.Number)
		var want, got map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(input[i]), &want))
		require.NoError(t, json.Unmarshal(l.Event.AppendJSON(nil), &got))
		require.Equal(t, want, got, "line %d", l.Number)
	}
	require.Equal(t, expected.LastEventAt, lines[len(lines)-1].Event.Milli())
}

func TestBlankLinesEndingsAndMark(t *testing.T) {
	two := strings.Replace(good, "e1", "e2", 1)
	lines := read(t, "\ufeff"+good+"\r\n\r\n \t\n\n"+two+"\r\n\n")
	require.Len(t, lines, 2)
	require.Equal(t, []int{1, 5}, []int{lines[0].Number, lines[1].Number})
	for i, id := range []string{"e1", "e2"} {
		require.NoError(t, lines[i].Err)
		require.Equal(t, id, lines[i].Event.ID)
	}
	require.Empty(t, read(t, ""))
	require.Empty(t, read(t, "\n\r\n  "))
	require.Empty(t, read(t, "\ufeff"))
	requireDamaged(t, read(t, "\n\ufeff"+good+"\n")[0], 2, "must be one JSON object")
}

func TestLastLineWithoutNewline(t *testing.T) {
	lines := read(t, good+"\n"+good)
	require.Len(t, lines, 2)
	require.NoError(t, lines[1].Err)

	emoji := strings.Replace(good, `"user"`, `"😀"`, 1)
	at := strings.Index(emoji, "😀")
	for _, n := range []int{1, 2, 10, at + 2, len(emoji) - 1} {
		lines = read(t, good+"\n"+emoji[:n])
		require.Len(t, lines, 2)
		require.NoError(t, lines[0].Err)
		requireDamaged(t, lines[1], 2, "torn")
		require.ErrorIs(t, lines[1].Err, legacy.ErrTorn)
	}
	// The same in the middle, where the original went on writing, is not torn.
	lines = read(t, good[:20]+good+"\n"+good+"\n")
	requireDamaged(t, lines[0], 1, "must be one JSON object")
	require.False(t, errors.Is(lines[0].Err, legacy.ErrTorn))
	require.NoError(t, lines[1].Err)
	// Nor is a whole line of something else.
	require.False(t, errors.Is(read(t, "[]")[0].Err, legacy.ErrTorn))
}

func TestDamagedLinesDoNotStopTheRest(t *testing.T) {
	damaged := []struct{ line, field, why string }{
		{`not JSON`, "line", "must be one JSON object"},
		{`{"type":"task.created"`, "line", "must be one JSON object"},
		{`[]`, "line", "must be one JSON object"},
		{`null`, "line", "must be one JSON object"},
		{strings.Repeat("\x00", 4096), "line", "must be one JSON object"},
		{strings.Replace(good, "user", "us\xffer", 1), "line", "valid UTF-8"},
		{strings.Replace(good, "task.created", "created", 1), "type", "2 to 8 tokens"},
		{strings.Replace(good, `"type":"task.created",`, ``, 1), "type", "2 to 8 tokens"},
		{strings.Replace(good, `"task.created"`, `null`, 1), "type", "JSON string"},
		{strings.Replace(good, `"user"`, `7`, 1), "actor", "JSON string"},
		{strings.Replace(good, `"user"`, `"\ud800"`, 1), "actor", "half of a surrogate pair"},
		{strings.Replace(good, `"e1"`, `"a\nb"`, 1), "id", "control characters"},
		{strings.Replace(good, `"s1"`, `"`+strings.Repeat("s", 513)+`"`, 1), "stream_id", "at most 512 bytes"},
		{strings.Replace(good, `,"timestamp":7`, ``, 1), "timestamp", "must be there"},
		{strings.Replace(good, `"timestamp":7`, `"timestamp":null`, 1), "timestamp", "whole milliseconds"},
		{strings.Replace(good, `"timestamp":7`, `"timestamp":7.5`, 1), "timestamp", "whole milliseconds"},
		{strings.Replace(good, `"timestamp":7`, `"timestamp":-7`, 1), "timestamp", "0 or later"},
		{strings.Replace(good, `"timestamp":7`, `"timestamp":"2026-01-02"`, 1), "timestamp", "whole milliseconds"},
		{strings.Replace(good, `"id"`, `"metadata":[],"id"`, 1), "metadata", "JSON object"},
		{strings.Replace(good, `"id"`, `"actor":"me","id"`, 1), "actor", "given twice"},
		{strings.Replace(good, `"id"`, `"x":1,"x":1,"id"`, 1), "x", "given twice"},
		{strings.Replace(good, `"actor":"user"`, `"actor":null,"actor":"user"`, 1), "actor", "JSON string"},
		{strings.Replace(good, `"actor":"user"`, `"actor":null,"x\ud800":1`, 1), "field name", "half of a surrogate pair"},
		{strings.Replace(good, `"id"`, `"seq":1,"id"`, 1), "seq", "reserved"},
		{strings.Replace(good, `"id"`, `"chain":"x","id"`, 1), "chain", "reserved"},
		{strings.Replace(good, `"id"`, `"guard":"x","id"`, 1), "guard", "reserved"},
	}
	var file strings.Builder
	for i, d := range damaged {
		fmt.Fprintf(&file, "%s\n%s\n", d.line, strings.Replace(good, "e1", fmt.Sprintf("e%d", i), 1))
	}
	lines := read(t, file.String())
	require.Len(t, lines, 2*len(damaged))
	for i, d := range damaged {
		requireDamaged(t, lines[2*i], 2*i+1, d.why)
		var invalid *event.InvalidError
		require.ErrorAs(t, lines[2*i].Err, &invalid)
		require.Equal(t, d.field, invalid.Field)
		require.NoError(t, lines[2*i+1].Err)
		require.Equal(t, fmt.Sprintf("e%d", i), lines[2*i+1].Event.ID)
	}
}

func TestMirrorLine(t *testing.T) {
	l := one(t, `{"seq":7,`+good[1:len(good)-1]+`,"chain":"ab"}`)
	requireDamaged(t, l, 1, "use dstream restore")
	require.ErrorIs(t, l.Err, legacy.ErrMirrorLine)
}

func TestIsLegacy(t *testing.T) {
	for line, want := range map[string]bool{
		good: true, `{}`: true, " {\"a\":1}\r": true, "\ufeff" + good: true, `{"payload":{"chain":1}}`: true, `{"Chain":1}`: true,
		`{"seq":1,"chain":"ab"}`: false, `{"chain":null}`: false, ``: false, `null`: false, `[]`: false, `{"a":`: false, `text`: false,
	} {
		require.Equal(t, want, legacy.IsLegacy([]byte(line)), line)
	}
}

func TestWhatTheOriginalLeftOutIsFilledIn(t *testing.T) {
	hash := func(line string) string {
		sum := sha256.Sum256([]byte(line))
		return "legacy-" + hex.EncodeToString(sum[:])
	}
	for name, c := range map[string]struct {
		line  string
		want  string
		fixed []string
	}{
		"nothing": {good, `{"id":"e1","type":"task.created","stream_id":"s1","correlation_id":"c1","actor":"user","timestamp":7,"payload":{"a":1}}`, nil},
		"stream": {`{"id":"e1","type":"a.b","correlation_id":"c1","actor":"u","timestamp":7,"payload":1}`,
			`{"id":"e1","type":"a.b","stream_id":"c1","correlation_id":"c1","actor":"u","timestamp":7,"payload":1}`, []string{"stream_id"}},
		"correlation": {`{"id":"e1","type":"a.b","stream_id":"s1","correlation_id":"","actor":"u","timestamp":7,"payload":null}`,
			`{"id":"e1","type":"a.b","stream_id":"s1","correlation_id":"s1","actor":"u","timestamp":7,"payload":null}`, []string{"correlation_id"}},
		"all but type and time": {`{"type":"a.b","timestamp":7}`,
			`{"id":"` + hash(`{"type":"a.b","timestamp":7}`) + `","type":"a.b","stream_id":"legacy","correlation_id":"legacy","actor":"unknown","timestamp":7,"payload":{}}`,
			[]string{"id", "stream_id", "correlation_id", "actor", "payload"}},
		"nulls": {`{ "id":null, "type":"a.b" ,"stream_id": null,"correlation_id":null,"actor":null,"x\u0041":[1e400, "\u003c"],"metadata":null,"timestamp":7,"payload":null,"causation_id":null}`,
			`{"id":"` + hash(`{ "id":null, "type":"a.b" ,"stream_id": null,"correlation_id":null,"actor":null,"x\u0041":[1e400, "\u003c"],"metadata":null,"timestamp":7,"payload":null,"causation_id":null}`) +
				`","type":"a.b","stream_id":"legacy","correlation_id":"legacy","actor":"unknown","timestamp":7,"payload":null,"xA":[1e400,"\u003c"],"causation_id":null}`,
			[]string{"id", "stream_id", "correlation_id", "actor", "metadata"}},
		"white space, unknown fields, a time of 0": {
			`{"sessionId":"ses", "type":"a.b","stream_id":"s","correlation_id":"c","actor":"u","payload":{"n" : 123456789012345678901234567890, "s":" <&> "},"metadata":{ },"id":"e","timestamp":0,"agent" : [ 1 ]}`,
			`{"id":"e","type":"a.b","stream_id":"s","correlation_id":"c","actor":"u","timestamp":0,"payload":{"n":123456789012345678901234567890,"s":" <&> "},"metadata":{},"sessionId":"ses","agent":[1]}`, nil},
	} {
		l := one(t, c.line)
		require.NoError(t, l.Err, name)
		require.Equal(t, c.want, string(l.Event.AppendJSON(nil)), name)
		require.Equal(t, c.fixed, l.Fixed, name)
		require.Equal(t, l.Event, read(t, "\ufeff"+c.line+"\r\n")[0].Event, "%s: the same id whatever ends the line", name)
	}
}

func TestLongLines(t *testing.T) {
	of := func(n int) string { // a line whose event has n bytes more than good's
		return strings.Replace(good, `{"a":1}`, `{"a":1,"t":"`+strings.Repeat("x", n)+`"}`, 1)
	}
	lines := read(t, of(7_900_000)+"\n"+of(9_000_000)+"\n"+strings.Repeat(" ", 9_000_000)+good+"\n"+good)
	require.Len(t, lines, 4)
	require.NoError(t, lines[0].Err)
	require.Len(t, lines[0].Event.Payload, len(`{"a":1,"t":""}`)+7_900_000)
	requireDamaged(t, lines[1], 2, "the Log takes at most")
	require.ErrorIs(t, lines[1].Err, legacy.ErrTooLong)
	require.NoError(t, lines[2].Err, "white space does not count")
	require.NoError(t, lines[3].Err)

	lines = read(t, strings.Repeat("a", 9_000_000)+"\n")
	requireDamaged(t, lines[0], 1, "must be one JSON object")
	var invalid *event.InvalidError
	require.ErrorAs(t, lines[0].Err, &invalid)
	require.Less(t, len(invalid.Value), 1000, "a report does not keep whole lines")
}

// 300 MB without a newline take the memory of one line, and the next line is read.
func TestEndlessLineKeepsMemoryBounded(t *testing.T) {
	const size = 300 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // whatever GOGC says
	r := io.MultiReader(strings.NewReader(good+"\n"), io.LimitReader(repeat('x'), size), strings.NewReader("\n"+good+"\n"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	lines := readFrom(t, r)
	runtime.ReadMemStats(&after)
	require.Len(t, lines, 3)
	requireDamaged(t, lines[1], 2, fmt.Sprintf("the line has %d bytes", size))
	require.ErrorIs(t, lines[1].Err, legacy.ErrTooLong)
	require.NoError(t, lines[2].Err)
	require.Equal(t, 3, lines[2].Number)
	require.Less(t, after.Sys-before.Sys, uint64(256<<20), "bytes taken from the system")
}

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func TestReadErrorIsGivenOnceAndLast(t *testing.T) {
	broken := errors.New("disk gone")
	r := io.MultiReader(strings.NewReader(good+"\n"+good[:30]), iotest.ErrReader(broken))
	var lines []legacy.Line
	var errs []error
	for l, err := range legacy.Read(r, "f.jsonl") {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lines = append(lines, l)
	}
	require.Len(t, lines, 1, "a line that was not read to its end says nothing")
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], broken)
	require.ErrorContains(t, errs[0], "f.jsonl after line 1")
}

func TestBreakEndsReading(t *testing.T) {
	n := 0
	for range legacy.Read(strings.NewReader(strings.Repeat(good+"\n", 10)), "f.jsonl") {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{
		good, good + "\n" + good[:50], "\ufeff" + good + "\r\n\n" + good, `{"type":"a.b","timestamp":7}`,
		`{"type":"a.b","timestamp":7,"stream_id":null,"actor":null,"x":{"y":null}}` + "\n[]", `{"seq":1,"chain":"x"}`,
		`{"id":null,"id":null}`, `{"id":null,"type":"a.b","timestamp":0,"metadata": null , "z" :1}`, "\xff\n{}\n{\"timestamp\":0}",
		`{"type":"a.b","timestamp":7,"actor":null,"\ud800":1,"payload":" "}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		number := 0
		for l, err := range legacy.Read(bytes.NewReader(file), "f.jsonl") {
			require.NoError(t, err)
			require.Greater(t, l.Number, number)
			number = l.Number
			if l.Err != nil {
				var le *legacy.LineError
				require.ErrorAs(t, l.Err, &le)
				continue
			}
			require.NoError(t, l.Event.Validate())
			back, err := event.DecodeBody(event.Recorded{Event: l.Event, Imported: true}.AppendBody(nil))
			require.NoError(t, err)
			require.Equal(t, l.Event, back.Event)
		}
		require.LessOrEqual(t, number, bytes.Count(file, []byte("\n"))+1)
	})
}
