package wire_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestToken(t *testing.T) {
	for s, want := range map[string]string{
		"ses_1":              "ses_1",
		"a.b":                "a%2Eb",
		"...":                "%2E%2E%2E",
		"*":                  "%2A",
		">":                  "%3E",
		" ":                  "%20",
		"100%":               "100%25",
		"%2E":                "%252E",
		"a b\tc\r\n":         "a%20b%09c%0D%0A",
		"\x00\x1f\x7f":       "%00%1F%7F",
		"agent/planner":      "agent/planner",
		"ünïcödé 😀":          "ünïcödé%20😀",
		"\u0080\u2028\ufeff": "\u0080\u2028\ufeff",
		"a\ufffdb":           "a%EF%BF%BDb",
		"a\xffb":             "a%FFb",
		"$JS":                "$JS",
		"\\\"{}":             "\\\"{}",
	} {
		require.Equal(t, want, wire.Token(s))
		back, err := wire.ParseToken(want)
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
}

// A token has one form only, so that no two subjects mean one stream.
func TestParseTokenRefuses(t *testing.T) {
	for tok, why := range map[string]string{
		"":       "one form",
		"a%":     "ends inside an escape",
		"a%2":    "ends inside an escape",
		"%2e":    "bad escape at byte 0",
		"a%zz":   "bad escape at byte 1",
		"%61":    "one form",
		"a.b":    "one form",
		"a b":    "one form",
		"%%25":   "bad escape",
		"a\xff":  "one form",
		"\ufffd": "one form",
	} {
		_, err := wire.ParseToken(tok)
		require.ErrorContains(t, err, why, "%q", tok)
	}
}

func TestParseEventSubjectRefuses(t *testing.T) {
	for _, subject := range []string{
		"", "events", "events.", "events.a", "events.a.s", "event.a.b.s", "guards.a.b.s", "events.a.b.", "events.a.*.s", "events.a.b.%2e",
		"events.a.b.c.d.e.f.g.h.i.s", "events.a..s", "xevents.a.b.s",
	} {
		_, _, err := wire.ParseEventSubject(subject)
		require.Error(t, err, "%q", subject)
	}
}

// acceptable says whether the engine takes a subject to publish to, and keeps it
// in its index: the last two rules are recoverFullState's and the subject tree's.
func acceptable(subject string) bool {
	return server.IsValidLiteralSubject(subject) && server.IsValidSubject(subject) && server.IsValidPublishSubject(subject) &&
		!strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError })
}

func requireSubject(t require.TestingT, typ, stream string) {
	subject := wire.EventSubject(typ, stream)
	require.True(t, acceptable(subject), "%q", subject)
	require.Equal(t, strings.Count(typ, ".")+3, len(strings.Split(subject, ".")), "the stream is one token")
	gotType, gotStream, err := wire.ParseEventSubject(subject)
	require.NoError(t, err)
	require.Equal(t, typ, gotType)
	require.Equal(t, stream, gotStream)
	require.False(t, wire.IsGuard(subject))
}

func TestEverySubjectComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireSubject(t, genType().Draw(t, "type"), genStream().Draw(t, "stream"))
	})
}

func genType() *rapid.Generator[string] {
	return rapid.StringMatching(`[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){1,7}`)
}

func genStream() *rapid.Generator[string] {
	odd := rapid.SliceOfN(rapid.SampledFrom([]string{".", "*", ">", "%", "%2E", " ", "\x00", "\x7f", "\ufffd", "😀", "a"}), 1, 8)
	return rapid.OneOf(rapid.StringN(1, 128, event.MaxStreamIDLen),
		rapid.Map(odd, func(s []string) string { return strings.Join(s, "") }))
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"ses_1", "a.b", "*", ">", "%", "%41", "😀", "\ufffd", "\xff\xfe", "\x00\x7f ", "a\ufffd.\xf0\x9f%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		tok := wire.Token(s)
		require.True(t, acceptable("events.a.b."+tok), "%q", tok)
		back, err := wire.ParseToken(tok)
		require.NoError(t, err)
		require.Equal(t, s, back)
		if event.ValidateStreamID(s) == nil {
			requireSubject(t, "task.created", s)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"ses_1", "a%2Eb", "%2e", "%", "%4", "%41", "%25%32", "%EF%BF%BD", "%FF", "a.b", "\xff", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, tok string) {
		s, err := wire.ParseToken(tok)
		if err != nil {
			return
		}
		require.NotEmpty(t, s)
		require.Equal(t, tok, wire.Token(s))
		require.True(t, acceptable("events.a.b."+tok), "%q", tok)
	})
}
