package wire_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestFilterSubjects(t *testing.T) {
	for name, c := range map[string]struct {
		f    event.Filter
		want []string
	}{
		"everything":       {event.Filter{}, []string{"events.>"}},
		"a type":           {event.Filter{Types: []string{"task.created"}}, []string{"events.task.created.*"}},
		"a kind":           {event.Filter{Types: []string{"ledger.>"}}, []string{"events.ledger.>"}},
		"a kind, one deep": {event.Filter{Types: []string{"checkpoint.*"}}, []string{"events.checkpoint.*.*"}},
		"twice the same":   {event.Filter{Types: []string{"a.b", "a.b"}}, []string{"events.a.b.*"}},
		"one in another":   {event.Filter{Types: []string{"a.b", "a.*"}}, []string{"events.a.*.*"}},
		"apart":            {event.Filter{Types: []string{"a.b", "a.c"}}, []string{"events.a.b.*", "events.a.c.*"}},
		"all types":        {event.Filter{Types: []string{">", "a.b"}}, []string{"events.>"}},
		"type and stream":  {event.Filter{StreamID: "s.1", Types: []string{"a.b"}}, []string{"events.a.b.s%2E1"}},
		"a stream": {event.Filter{StreamID: "s"}, []string{
			"events.*.*.s", "events.*.*.*.s", "events.*.*.*.*.s", "events.*.*.*.*.*.s",
			"events.*.*.*.*.*.*.s", "events.*.*.*.*.*.*.*.s", "events.*.*.*.*.*.*.*.*.s"}},
		"a stream's kind": {event.Filter{StreamID: "s", Types: []string{"a.b.c.d.e.>"}}, []string{
			"events.a.b.c.d.e.*.s", "events.a.b.c.d.e.*.*.s", "events.a.b.c.d.e.*.*.*.s"}},
		"crossing":                            {event.Filter{Types: []string{"a.*", "*.b"}}, []string{"events.*.*.*"}},
		"other fields are not in the subject": {event.Filter{Actor: "me", Since: time.UnixMilli(3), After: 9}, []string{"events.>"}},
	} {
		require.Equal(t, c.want, wire.FilterSubjects(c.f), name)
	}
}

// The subjects of a filter never overlap (the server would refuse the consumer),
// and every event that the filter wants is on one of them.
func TestFilterSubjectsAreDisjointAndComplete(t *testing.T) {
	tok := rapid.SampledFrom([]string{"a", "b", "c"}) // few, so that they meet
	typ := rapid.Map(rapid.SliceOfN(tok, event.MinTypeTokens, event.MaxTypeTokens), func(s []string) string { return strings.Join(s, ".") })
	pattern := rapid.Custom(func(t *rapid.T) string {
		p := strings.Split(typ.Draw(t, "type"), ".")
		for i := range p {
			if rapid.IntRange(0, 2).Draw(t, "wild") == 0 {
				p[i] = "*"
			}
		}
		if rapid.Bool().Draw(t, "open") {
			p = append(p[:rapid.IntRange(0, len(p)-1).Draw(t, "cut")], ">")
		}
		return strings.Join(p, ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		f := event.Filter{Types: rapid.SliceOfN(pattern, 0, 5).Draw(t, "patterns")}
		if rapid.Bool().Draw(t, "of a stream") {
			f.StreamID = genStream().Draw(t, "stream")
		}
		require.NoError(t, f.Validate())
		subjects := wire.FilterSubjects(f)
		require.NotEmpty(t, subjects)
		for i, a := range subjects {
			require.True(t, server.IsValidSubject(a), "%q", a)
			for _, b := range subjects[:i] {
				require.False(t, server.SubjectsCollide(a, b), "%s meets %s", a, b)
			}
		}
		for range 20 {
			r := event.Recorded{Event: event.Event{Type: typ.Draw(t, "an event's type"), StreamID: "other"}, Seq: 1}
			if f.StreamID != "" && rapid.IntRange(0, 4).Draw(t, "in the stream") > 0 {
				r.StreamID = f.StreamID
			}
			if !f.Match(r) {
				continue
			}
			subject := wire.EventSubject(r.Type, r.StreamID)
			require.True(t, slices.ContainsFunc(subjects, func(s string) bool { return server.SubjectMatchesFilter(subject, s) }),
				"%s is on none of %v", subject, subjects)
		}
	})
}
