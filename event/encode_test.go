package event_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
)

// What is written is what the plainest way would write, byte by byte: logs and mirrors
// hold these bytes, and a chain over them.
func TestEncodingIsThatOfThePlainWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecorded().Draw(t, "recorded")
		for _, text := range []*string{&r.ID, &r.Type, &r.StreamID, &r.CausationID, &r.CorrelationID, &r.Actor, &r.Guard} {
			if rapid.IntRange(0, 9).Draw(t, "left as it is") == 0 { // also what no Log takes
				*text = rapid.OneOf(rapid.Just(""), genAnyText()).Draw(t, "text")
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "with a payload") == 0 {
			r.Payload = nil
		}
		before := rapid.SampledFrom([]string{"", "x", "a line\n"}).Draw(t, "before")
		seq := `"seq":` + strconv.FormatUint(uint64(r.Seq), 10)
		require.Equal(t, before+"{"+plainMembers(r.Event)+"}", string(r.Event.AppendJSON([]byte(before))))
		require.Equal(t, before+"{"+plainMembers(r.Event)+plainMarks(r)+"}", string(r.AppendBody([]byte(before))))
		require.Equal(t, before+"{"+seq+","+plainMembers(r.Event)+plainMarks(r)+"}", string(r.AppendJSON([]byte(before))))
	})
}

// A buffer that has room is used, and nothing beyond what is returned matters.
func TestEncodingIntoABufferThatIsUsedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var buf []byte
		for _, r := range rapid.SliceOfN(genRecorded(), 1, 4).Draw(t, "several") {
			buf = r.AppendBody(buf[:0])
			require.Equal(t, string(r.AppendBody(nil)), string(buf))
		}
	})
}

func TestStringsAreThoseOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genAnyText().Draw(t, "text")
		got := event.AppendString([]byte("before"), s)
		require.Equal(t, "before"+plainString(s), string(got))

		var back, want string // encoding/json replaces what is not UTF-8
		quoted, err := json.Marshal(s)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(quoted, &want))
		require.NoError(t, json.Unmarshal(got[len("before"):], &back))
		require.Equal(t, want, back)
	})
}

func TestCompactIsThatOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := spaced(t, genRaw(3).Draw(t, "value"))
		var want bytes.Buffer
		require.NoError(t, json.Compact(&want, []byte(given)))
		before := given
		require.Equal(t, want.String(), string(event.Compact(json.RawMessage(given))))
		require.Equal(t, before, given)
	})
}

// spaced puts white space between the tokens of compact JSON.
func spaced(t *rapid.T, v string) string {
	var out []byte
	space := func() {
		out = append(out, rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r\n  "}).Draw(t, "space")...)
	}
	inText := false
	for i := 0; i < len(v); i++ {
		mark := !inText && bytes.IndexByte([]byte("{}[]:,"), v[i]) >= 0
		if mark {
			space()
		}
		out = append(out, v[i])
		switch {
		case inText && v[i] == '\\':
			i++
			out = append(out, v[i])
		case v[i] == '"':
			inText = !inText
		case mark:
			space()
		}
	}
	return string(out)
}

// genAnyText gives texts that lean towards what has to be escaped, and bytes that are
// not UTF-8.
func genAnyText() *rapid.Generator[string] {
	piece := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		`"`, `\`, `\"`, "\n", "\r", "\t", "\b", "\f", "\x00", "\x1f", "\x7f", "\u2028", "<&>", "\xff", "\xed\xa0\x80", "ü", "😀", "/",
	}))
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(ss []string) string {
		var out string
		for _, s := range ss {
			out += s
		}
		return out
	})
}

func plainMembers(e event.Event) string {
	out := ""
	member := func(name, v string) {
		if v == "" {
			return
		}
		if out != "" {
			out += ","
		}
		out += plainString(name) + ":" + v
	}
	text := func(name, v string) {
		if v != "" {
			member(name, plainString(v))
		}
	}
	text("id", e.ID)
	text("type", e.Type)
	text("stream_id", e.StreamID)
	text("causation_id", e.CausationID)
	text("correlation_id", e.CorrelationID)
	text("actor", e.Actor)
	member("timestamp", strconv.FormatInt(e.Milli(), 10))
	member("payload", string(e.Payload))
	member("metadata", string(e.Metadata))
	for _, f := range e.Extra {
		member(f.Name, string(f.Value))
	}
	return out
}

func plainMarks(r event.Recorded) string {
	out := ""
	if r.Guard != "" {
		out += `,"guard":` + plainString(r.Guard)
	}
	if r.Imported {
		out += `,"imported":true`
	}
	return out
}

func plainString(s string) string {
	const hex = "0123456789abcdef"
	out := []byte{'"'}
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 0x20:
			out = append(out, c)
		case c == '\n':
			out = append(out, `\n`...)
		case c == '\t':
			out = append(out, `\t`...)
		case c == '\r':
			out = append(out, `\r`...)
		default:
			out = append(out, `\u00`...)
			out = append(out, hex[c>>4], hex[c&15])
		}
	}
	return string(append(out, '"'))
}
