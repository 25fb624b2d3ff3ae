package event_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

func TestMatchType(t *testing.T) {
	for _, c := range []struct {
		pattern, typ string
		want         bool
	}{
		{"task.created", "task.created", true},
		{"task.created", "task.create", false},
		{"task.created", "task.created.x", false},
		{"task.created", "Task.created", false},
		{"a.b.c", "a.b", false},
		{"task.*", "task.created", true},
		{"task.*", "task.created.x", false},
		{"task.*", "tasks.created", false},
		{"*.created", "task.created", true},
		{"*.created", "task.done", false},
		{"*.*", "a.b", true},
		{"*.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{">", "a.b", true},
		{">", "a.b.c.d.e.f.g.h", true},
		{"ledger.>", "ledger.epic.created", true},
		{"ledger.>", "ledger.x", true},
		{"ledger.>", "ledgers.x", false},
		{"ledger.epic.>", "ledger.epic", false},
		{"*.epic.>", "ledger.epic.created", true},
		{"*.epic.>", "ledger.task.created", false},
	} {
		require.NoError(t, event.ValidatePattern(c.pattern))
		require.Equal(t, c.want, event.MatchType(c.pattern, c.typ), "%s ~ %s", c.pattern, c.typ)
	}
}

func TestValidatePatternRefuses(t *testing.T) {
	for pattern, rule := range map[string]string{
		"":                              "each token",
		"task":                          "2 to 8 tokens",
		"*":                             "2 to 8 tokens",
		"a.b.c.d.e.f.g.h.i":             "2 to 8 tokens",
		"a.b.c.d.e.f.g.h.>":             "2 to 8 tokens",
		"task..x":                       "each token",
		"task.>.x":                      "each token",
		">.x":                           "each token",
		"task.cre*":                     "each token",
		"task.a b":                      "each token",
		"task.ü":                        "each token",
		"t." + strings.Repeat("x", 199): "at most 200 bytes",
	} {
		requireInvalid(t, event.ValidatePattern(pattern), "type pattern", rule)
		requireInvalid(t, event.Filter{Types: []string{"a.b", pattern}}.Validate(), "type pattern", rule)
	}
}

func TestFilterMatch(t *testing.T) {
	r := event.Recorded{Event: valid(), Seq: 10}
	r.Timestamp = time.UnixMilli(1000)
	for name, c := range map[string]struct {
		f    event.Filter
		want bool
	}{
		"zero value":            {event.Filter{}, true},
		"stream":                {event.Filter{StreamID: "s1"}, true},
		"other stream":          {event.Filter{StreamID: "s"}, false},
		"type":                  {event.Filter{Types: []string{"task.created"}}, true},
		"one of the types":      {event.Filter{Types: []string{"ledger.>", "task.*"}}, true},
		"none of the types":     {event.Filter{Types: []string{"ledger.>", "task.completed"}}, false},
		"actor":                 {event.Filter{Actor: "user"}, true},
		"other actor":           {event.Filter{Actor: "User"}, false},
		"correlation":           {event.Filter{CorrelationID: "c1"}, true},
		"other correlation":     {event.Filter{CorrelationID: "c"}, false},
		"since is inclusive":    {event.Filter{Since: time.UnixMilli(1000)}, true},
		"since later":           {event.Filter{Since: time.UnixMilli(1001)}, false},
		"until is inclusive":    {event.Filter{Until: time.UnixMilli(1000)}, true},
		"until earlier":         {event.Filter{Until: time.UnixMilli(999)}, false},
		"exactly then":          {event.Filter{Since: time.UnixMilli(1000), Until: time.UnixMilli(1000)}, true},
		"after an earlier one":  {event.Filter{After: 9}, true},
		"after itself":          {event.Filter{After: 10}, false},
		"limit counts nothing":  {event.Filter{Limit: 1}, true},
		"last counts nothing":   {event.Filter{Last: 1}, true},
		"all of it":             {event.Filter{StreamID: "s1", Types: []string{">"}, Actor: "user", CorrelationID: "c1", Since: time.UnixMilli(1), Until: time.UnixMilli(2000), After: 1}, true},
		"all of it but a field": {event.Filter{StreamID: "s1", Types: []string{">"}, Actor: "user", CorrelationID: "c2", Since: time.UnixMilli(1), Until: time.UnixMilli(2000), After: 1}, false},
	} {
		require.NoError(t, c.f.Validate(), name)
		require.Equal(t, c.want, c.f.Match(r), name)
	}
	require.True(t, event.Filter{}.Match(event.Recorded{Event: event.Event{Timestamp: time.UnixMilli(0)}, Seq: 1}), "1970 is no bound")
}

func TestFilterValidate(t *testing.T) {
	for name, c := range map[string]struct {
		f           event.Filter
		field, rule string
		value       string
	}{
		"since after until": {event.Filter{Since: time.UnixMilli(3), Until: time.UnixMilli(2)}, "since", "must not be after until (2)", "3"},
		"negative since":    {event.Filter{Since: time.UnixMilli(-1)}, "since", "0 or later", "-1"},
		"negative until":    {event.Filter{Until: time.UnixMilli(-1)}, "until", "0 or later", "-1"},
		"negative limit":    {event.Filter{Limit: -5}, "limit", "or more", "-5"},
		"negative last":     {event.Filter{Last: -5}, "last", "or more", "-5"},
		"limit and last":    {event.Filter{Limit: 1, Last: 2}, "last", "cannot be combined with limit", "2"},
		"stream too long":   {event.Filter{StreamID: strings.Repeat("s", 513)}, "stream_id", "at most 512 bytes", "sss"},
		"stream not UTF-8":  {event.Filter{StreamID: "\xff"}, "stream_id", "valid UTF-8", `\xff`},
	} {
		err := c.f.Validate()
		requireInvalid(t, err, c.field, c.rule)
		require.Contains(t, err.Error(), c.value, name)
	}
	require.NoError(t, event.Filter{Since: time.UnixMilli(2), Until: time.UnixMilli(2), Limit: 1, After: 7}.Validate())
}

// The Log keeps whole milliseconds of an event's time, and so do the bounds: a program that
// takes the time, appends, and queries from that time on gets its event.
func TestBoundsAreInMilliseconds(t *testing.T) {
	t.Parallel()
	begun := time.Unix(1_796_046_000, 123_999_999)
	stored := event.Recorded{Event: event.Event{Timestamp: time.UnixMilli(begun.UnixMilli())}, Seq: 1}
	require.True(t, event.Filter{Since: begun}.Match(stored))
	require.True(t, event.Filter{Since: begun, Until: begun}.Match(stored))
	require.NoError(t, event.Filter{Since: begun, Until: begun.Add(-time.Microsecond)}.Validate(), "the same millisecond")
	require.False(t, event.Filter{Since: begun.Add(time.Millisecond)}.Match(stored))
	require.False(t, event.Filter{Until: begun.Add(-time.Millisecond)}.Match(stored))
}
