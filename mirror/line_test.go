package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
)

// genBody gives stored bodies, with what splicing could get wrong: names and
// values that look like the line's own ends, and white space inside.
func genBody() *rapid.Generator[string] {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"}`, `,"chain":"`, "}", "{", "\u2028", "<>&", "\\"}))
	return rapid.Custom(func(t *rapid.T) string {
		quote := func(s string) string {
			b, err := json.Marshal(strings.ToValidUTF8(s, "?"))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		space := rapid.SampledFrom([]string{"", " ", "\t "})
		payload := rapid.SampledFrom([]string{"1", "{}", `{"chain":"` + strings.Repeat("0", 64) + `"}`, "[{}]", "123456789012345678901234567890"}).Draw(t, "payload")
		members := []string{
			`"id":` + quote("i"+rapid.StringMatching(`[a-z]{0,9}`).Draw(t, "id")), `"type":"a.b"`,
			`"stream_id":"s"`, `"correlation_id":` + quote("c"+text.Draw(t, "correlation")), `"actor":"a"`, `"timestamp":1`, `"payload":` + payload,
		}
		if rapid.Bool().Draw(t, "extra") {
			members = append(members, quote("x"+text.Draw(t, "name"))+":"+quote(text.Draw(t, "value")))
		}
		members = rapid.Permutation(members).Draw(t, "order")
		return "{" + space.Draw(t, "before") + strings.Join(members, space.Draw(t, "between")+",") + space.Draw(t, "after") + "}"
	}).Filter(func(s string) bool { _, err := event.DecodeBody([]byte(s)); return err == nil })
}

// A line gives its body back byte for byte, is JSON, and its chain is what the
// package's documentation says.
func TestLineIsSplicedAndUnspliced(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := genBody().Draw(t, "body")
		seq := event.Sequence(rapid.Uint64Min(1).Draw(t, "seq"))
		prev := origin
		if rapid.Bool().Draw(t, "not the first") {
			copy(prev[:], hex.EncodeToString(sha256.New().Sum(nil)))
		}
		out, next := newChainer().appendLine([]byte("before"), seq, []byte(body), prev)
		line, ok := bytes.CutPrefix(out, []byte("before"))
		require.True(t, ok)
		require.True(t, json.Valid(line))
		require.Equal(t, 1, bytes.Count(line, []byte("\n")))
		line = bytes.TrimSuffix(line, []byte("\n"))

		core, tail, ok := cutLast(string(line), `,"chain":"`)
		require.True(t, ok)
		require.Equal(t, string(next[:])+`"}`, tail)
		sum := sha256.Sum256([]byte(string(prev[:]) + core))
		require.Equal(t, hex.EncodeToString(sum[:]), string(next[:]))

		recorded, err := event.DecodeRecorded(line) // any reader's way
		require.NoError(t, err)
		l, err := decodeLine(line, "f", 7)
		require.NoError(t, err)
		require.Equal(t, body, string(l.Body))
		require.Equal(t, seq, l.Recorded.Seq)
		require.Equal(t, recorded, l.Recorded)
		require.Equal(t, string(next[:]), l.Chain)
	})
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	tail := `,"chain":"` + strings.Repeat("a", 64) + `"}`
	for _, line := range []string{
		"", "{", `{"seq":`, `{"seq":1`, `{"seq":1,`, `{"seq":,"x":1` + tail, `{"seq":0,"x":1` + tail, `{"seq":01,"x":1` + tail,
		`{"seq":-1,"x":1` + tail, `{"seq":1.5,"x":1` + tail, `{"seq":18446744073709551616,"x":1` + tail, ` {"seq":1,"x":1` + tail,
		`{"seq":1` + tail, `{"seq":1,"x":1` + strings.ToUpper(tail), `{"seq":1,"x":1` + tail + " ", `{"seq":1,"x":1` + tail[1:],
		`{"seq":1,"x":1` + strings.Replace(tail, "a", "g", 1), `{"seq":1,"x":1` + strings.Replace(tail, "a", "", 1),
	} {
		_, err := split([]byte(line))
		require.Error(t, err, "%q", line)
	}
	p, err := split([]byte(`{"seq":18446744073709551615,"x":1` + tail))
	require.NoError(t, err)
	require.Equal(t, ^event.Sequence(0), p.seq)
}

func TestRotatedNames(t *testing.T) {
	t.Parallel()
	n, ok := parseRotated(rotatedName(42))
	require.True(t, ok)
	require.EqualValues(t, 42, n)
	for _, name := range []string{
		"durable_stream.seq-.jsonl", "durable_stream.seq-0.jsonl", "durable_stream.seq-007.jsonl", "durable_stream.seq-+7.jsonl",
		"durable_stream.seq-7 (copy).jsonl", "durable_stream.seq-7.jsonl~", "durable_stream_2026-01-02.jsonl", ActiveName,
	} {
		_, ok := parseRotated(name)
		require.False(t, ok, name)
	}
}
