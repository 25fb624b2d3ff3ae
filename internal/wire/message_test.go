package wire_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

func recorded(typ, payload string) event.Recorded {
	return event.Recorded{Seq: 7, Event: event.Event{
		ID: "e1", Type: typ, StreamID: "ses 1", CorrelationID: "c1", Actor: "agent/planner", Timestamp: time.UnixMilli(1795355693126),
		Payload: json.RawMessage(payload),
	}}
}

// Decode and Check hold a subject to be the event's exactly where it is the one that
// EventSubject composes.
func TestSubjectIsTheEvents(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(genStream(), rapid.SampledFrom([]string{"s", "ses_7", "ses%201", "a.b", "ü", "\ufffd", "%", "*", ">", "\x7f", " "}))
	rapid.Check(t, func(t *rapid.T) {
		r := recorded(genType().Draw(t, "type"), "{}")
		r.StreamID = text.Draw(t, "stream")
		subject := wire.EventSubject(r.Type, r.StreamID)
		given := rapid.OneOf(
			rapid.Just(subject),
			rapid.Just(wire.Events+"."+r.Type+"."+r.StreamID),
			rapid.Just(wire.Events+"."+r.Type+"."+wire.Token(text.Draw(t, "other stream"))),
			rapid.Just(wire.Events+"."+genType().Draw(t, "other type")+"."+wire.Token(r.StreamID)),
			rapid.Just(wire.Guards+subject[len(wire.Events):]),
			rapid.Custom(func(t *rapid.T) string {
				at := rapid.IntRange(0, len(subject)-1).Draw(t, "at")
				return subject[:at] + rapid.SampledFrom([]string{"", ".", "x", "%"}).Draw(t, "instead") + subject[at+1:]
			}),
		).Draw(t, "subject")
		body := r.AppendBody(nil)
		_, err := wire.Decode(given, body, r.Seq)
		require.Equal(t, err, wire.Check(given, body, r.Seq))
		if given == subject {
			require.NoError(t, err)
			return
		}
		var not *wire.DecodeError
		require.ErrorAs(t, err, &not)
		require.Contains(t, err.Error(), "must be "+subject+" for this type and stream_id")
	})
	plain := recorded("a.b", "{}")
	plain.StreamID = "ses_7"
	body := plain.AppendBody(nil)
	subject := wire.EventSubject("a.b", "ses_7")
	require.NoError(t, wire.Check(subject, body, 7))
	for at := range subject {
		for _, c := range []string{"x", "?"} {
			require.Error(t, wire.Check(subject[:at]+c+subject[at+1:], body, 7))
		}
	}
	body = recorded("a.b", "{}").AppendBody(nil)
	for _, bad := range []string{"", "{}", string(body) + " ", strings.Replace(string(body), "a.b", "a", 1)} {
		_, err := wire.Decode("events.a.b.ses%201", []byte(bad), 7)
		require.Error(t, err)
		require.Equal(t, err, wire.Check("events.a.b.ses%201", []byte(bad), 7))
	}
}

// A header's value is printable ASCII, and two values never share one.
func TestHeaderValue(t *testing.T) {
	seen := map[string]string{}
	for _, v := range []string{
		"user", "agent/planner", "a b", " a", "a ", "", "\t", "ü", "a\nb", "a\x7f", "\u00a0", "sha256:", "sha256:abc", "SHA256:abc", "~", "%",
		"sha256:8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92", // of 123456
		"123456", strings.Repeat("x", 1024),
	} {
		h := wire.HeaderValue(v)
		require.Equal(t, h, strings.TrimSpace(h))
		for _, c := range []byte(h) {
			require.True(t, c >= 0x20 && c < 0x7f, "%q", h)
		}
		other, taken := seen[h]
		require.False(t, taken, "%q and %q share %q", v, other, h)
		seen[h] = v
	}
	require.Equal(t, "agent/planner", wire.HeaderValue("agent/planner"))
	require.Equal(t, "a b", wire.HeaderValue("a b"))
	require.Equal(t, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", wire.HeaderValue(""))
}

func TestEncode(t *testing.T) {
	r := recorded("checkpoint.approved", `{"checkpoint_id":"cp_1"}`)
	r.Actor, r.Guard, r.Imported = "üser", "guards.checkpoint.cp_1", true
	m := wire.Encode(r)
	require.Equal(t, "events.checkpoint.approved.ses%201", m.Subject)
	require.Equal(t, "e1", m.Header.Get(wire.HeaderID))
	require.Equal(t, "c1", m.Header.Get(wire.HeaderCorrelation))
	require.Equal(t, wire.HeaderValue("üser"), m.Header.Get(wire.HeaderActor))
	require.Equal(t, "guards.checkpoint.cp_1", m.Header.Get(wire.HeaderGuard))
	require.Equal(t, string(r.AppendBody(nil)), string(m.Data))
	require.NotContains(t, string(m.Data), `"seq"`)

	r.Guard = ""
	require.Empty(t, wire.Encode(r).Header.Values(wire.HeaderGuard))
}

func TestDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := recorded(genType().Draw(t, "type"), `{"n":1e400,"s":"<\ud800>"}`)
		r.StreamID = genStream().Draw(t, "stream")
		r.Actor = rapid.StringN(1, 20, event.MaxActorLen).Draw(t, "actor")
		r.Imported = rapid.Bool().Draw(t, "imported")
		r.Seq = event.Sequence(rapid.Uint64Min(1).Draw(t, "seq"))
		require.NoError(t, r.Validate())
		m := wire.Encode(r)
		got, err := wire.Decode(m.Subject, m.Data, r.Seq)
		require.NoError(t, err)
		require.Equal(t, r, got)
	})
}

func TestDecodeRefuses(t *testing.T) {
	m := wire.Encode(recorded("task.created", `{}`))
	for name, c := range map[string]struct{ subject, body, why string }{
		"another type":        {"events.task.completed.ses%201", string(m.Data), "must be events.task.created.ses%201"},
		"another stream":      {"events.task.created.ses_1", string(m.Data), "must be events.task.created.ses%201"},
		"a guard's subject":   {"guards.user.x", string(m.Data), "must be events.task.created.ses%201"},
		"not JSON":            {m.Subject, "hello", "one JSON object"},
		"nothing":             {m.Subject, "", "one JSON object"},
		"with a seq":          {m.Subject, `{"seq":1,` + string(m.Data[1:]), "does not belong"},
		"two lines":           {m.Subject, string(m.Data[:1]) + "\n" + string(m.Data[1:]), "one line"},
		"an event without id": {m.Subject, strings.Replace(string(m.Data), `"id":"e1",`, "", 1), "must not be empty"},
	} {
		_, err := wire.Decode(c.subject, []byte(c.body), 12)
		var de *wire.DecodeError
		require.ErrorAs(t, err, &de, name)
		require.Equal(t, event.Sequence(12), de.Seq)
		require.Equal(t, c.subject, de.Subject)
		require.ErrorContains(t, err, c.why, name)
		require.ErrorContains(t, err, "message 12 on "+c.subject, name)
		var invalid *event.InvalidError
		require.True(t, errors.As(err, &invalid), name)
	}
}

// Size is what the server counts, so that a message that is too large is refused
// here, with words.
func TestSize(t *testing.T) {
	m := wire.EncodeGuard("guards.user.x", []byte("12345"))
	require.Equal(t, 5, wire.Size(m))
	m.Header.Set(wire.HeaderID, "e1")
	require.Equal(t, len("NATS/1.0\r\nNats-Msg-Id: e1\r\n\r\n12345"), wire.Size(m))
	m.Subject = "guards.user.much-longer"
	require.Equal(t, len("NATS/1.0\r\nNats-Msg-Id: e1\r\n\r\n12345"), wire.Size(m), "the subject does not count")
}
