package when

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("this machine knows no zone %s: %v", name, err)
	}
	return loc
}

func TestParse(t *testing.T) {
	t.Parallel()
	fixed := time.FixedZone("here", 2*60*60)
	now := time.Date(2026, 11, 30, 16, 5, 7, 123e6, fixed)
	for _, c := range []struct{ in, first, last string }{
		{"now", "2026-11-30T16:05:07.123+02:00", ""},
		{"today", "2026-11-30T00:00:00+02:00", "2026-11-30T23:59:59.999+02:00"},
		{"Yesterday", "2026-11-29T00:00:00+02:00", "2026-11-29T23:59:59.999+02:00"},
		{"2026-11-29", "2026-11-29T00:00:00+02:00", "2026-11-29T23:59:59.999+02:00"},
		{"2026-11-29 13:50", "2026-11-29T13:50:00+02:00", ""},
		{"2026-11-29T13:50", "2026-11-29T13:50:00+02:00", ""},
		{" 2026-11-29   13:50:07 ", "2026-11-29T13:50:07+02:00", ""},
		{"2026-11-29 13:50:07.5", "2026-11-29T13:50:07.5+02:00", ""},
		{"2026-11-29T13:50:07.5Z", "2026-11-29T13:50:07.5Z", ""},
		{"2026-11-29t13:50:07z", "2026-11-29T13:50:07Z", ""},
		{"2026-11-29 13:50Z", "2026-11-29T13:50:00Z", ""},
		{"2026-11-29 13:50 -05:00", "2026-11-29T13:50:00-05:00", ""},
		{"2026-11-29T13:50:00+0100", "2026-11-29T13:50:00+01:00", ""},
		{"2026-11-29 13:50 -0500", "2026-11-29T13:50:00-05:00", ""},
		{"13:50", "2026-11-30T13:50:00+02:00", ""},
		{"0:05", "2026-11-30T00:05:00+02:00", ""},
		{"13:50:07", "2026-11-30T13:50:07+02:00", ""},
		{"yesterday 13:50", "2026-11-29T13:50:00+02:00", ""},
		{"today 9:00", "2026-11-30T09:00:00+02:00", ""},
		{"90m", "2026-11-30T14:35:07.123+02:00", ""},
		{"1h30m", "2026-11-30T14:35:07.123+02:00", ""},
		{"1.5h", "2026-11-30T14:35:07.123+02:00", ""},
		{"2h ago", "2026-11-30T14:05:07.123+02:00", ""},
		{"2 hours ago", "2026-11-30T14:05:07.123+02:00", ""},
		{"500ms", "2026-11-30T16:05:06.623+02:00", ""},
		{"0s", "2026-11-30T16:05:07.123+02:00", ""},
		{"7d", "2026-11-23T16:05:07.123+02:00", ""},
		{"1d12h", "2026-11-29T04:05:07.123+02:00", ""},
		{"3 weeks ago", "2026-11-09T16:05:07.123+02:00", ""},
		{"1 day ago", "2026-11-29T16:05:07.123+02:00", ""},
		{"1796046000123", "2026-11-30T13:40:00.123Z", ""},
		{"0", "1970-01-01T00:00:00Z", ""},
	} {
		for edge, want := range map[Edge]string{First: c.first, Last: c.last} {
			if want == "" {
				want = c.first
			}
			got, err := Parse(c.in, now, edge)
			require.NoError(t, err, c.in)
			wanted, err := time.Parse(time.RFC3339Nano, want)
			require.NoError(t, err)
			require.True(t, wanted.Equal(got), "%s: want %s, got %s", c.in, wanted, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 16, 5, 7, 0, time.UTC)
	for in, words := range map[string]string{
		"":                      "must be a date",
		"tomorrow":              "must be a date",
		"2026-11-31":            "must be a date",
		"2026-13-01":            "must be a date",
		"11/29/2026":            "must be a date",
		"25:00":                 "must be a date",
		"yesterday 25:00":       "must be a date",
		"h":                     "must be a date",
		"2x":                    "must be a date",
		"-2h":                   "must be a date",
		"-1":                    "must be a date",
		"ago":                   "must be a date",
		"1..5h":                 "must be a date",
		"1.5d":                  "whole numbers",
		"1796046000":            "looks like Unix time in seconds (2026-11-30 13:40), and would be read as milliseconds (1970-01-21 18:54): write 1796046000000",
		"2026":                  "too small for Unix time in milliseconds",
		"20261129":              "too small for Unix time in milliseconds",
		"1":                     "too small for Unix time in milliseconds",
		"1796046000123456":      "microseconds",
		"1796046000123456789":   "microseconds",
		"99999999999999999999d": "longer ago than 1970",
		"99999999999999999999h": "longer ago than 1970",
		"600000h600000h":        "year",
		"30000d":                "must be from 1970",
		"16:06":                 "is still to come today: write yesterday 16:06",
		"1969-12-31":            "must be from 1970",
	} {
		_, err := Parse(in, now, First)
		require.ErrorContains(t, err, words, in)
	}
	until, err := Parse("16:06", now, Last)
	require.NoError(t, err, "an upper bound may be")
	require.True(t, until.After(now))
}

// On the days on which summer time begins or ends.
func TestSummerTime(t *testing.T) {
	t.Parallel()
	berlin, cairo, lordHowe := zone(t, "Europe/Berlin"), zone(t, "Africa/Cairo"), zone(t, "Australia/Lord_Howe")
	for _, c := range []struct {
		name    string
		in      string
		now     time.Time
		edge    Edge
		want    string
		refused bool
	}{
		{"a day of 23 hours begins", "2026-03-29", time.Date(2026, 4, 1, 12, 0, 0, 0, berlin), First, "2026-03-28T23:00:00Z", false},
		{"and ends", "2026-03-29", time.Date(2026, 4, 1, 12, 0, 0, 0, berlin), Last, "2026-03-29T21:59:59.999Z", false},
		{"a day of 25 hours begins", "2026-10-25", time.Date(2026, 11, 1, 12, 0, 0, 0, berlin), First, "2026-10-24T22:00:00Z", false},
		{"and ends", "2026-10-25", time.Date(2026, 11, 1, 12, 0, 0, 0, berlin), Last, "2026-10-25T22:59:59.999Z", false},
		{"a time that does not exist", "2026-03-29 02:30", time.Date(2026, 4, 1, 12, 0, 0, 0, berlin), First, "", true},
		{"nor today", "02:30", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), Last, "", true},
		{"a time that comes twice, first", "2026-10-25 02:30", time.Date(2026, 11, 1, 12, 0, 0, 0, berlin), First, "2026-10-25T00:30:00Z", false},
		{"a time that comes twice, last", "2026-10-25 02:30", time.Date(2026, 11, 1, 12, 0, 0, 0, berlin), Last, "2026-10-25T01:30:00Z", false},
		{"1d ago is the same time of day", "1d", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), First, "2026-03-28T11:00:00Z", false},
		{"24h ago is not", "24h", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), First, "2026-03-28T10:00:00Z", false},
		{"yesterday at night after a change", "yesterday", time.Date(2026, 3, 30, 0, 30, 0, 0, berlin), First, "2026-03-28T23:00:00Z", false},
		{"a day that has no midnight", "2026-04-24", time.Date(2026, 5, 1, 12, 0, 0, 0, cairo), First, "2026-04-23T22:00:00Z", false},
		{"the day before it", "2026-04-23", time.Date(2026, 5, 1, 12, 0, 0, 0, cairo), Last, "2026-04-23T21:59:59.999Z", false},
		{"half an hour forward", "2026-10-04 02:15", time.Date(2026, 10, 5, 12, 0, 0, 0, lordHowe), First, "", true},
		{"half an hour back, first", "2026-04-05 01:45", time.Date(2026, 4, 6, 12, 0, 0, 0, lordHowe), First, "2026-04-04T14:45:00Z", false},
		{"half an hour back, last", "2026-04-05 01:45", time.Date(2026, 4, 6, 12, 0, 0, 0, lordHowe), Last, "2026-04-04T15:15:00Z", false},
	} {
		got, err := Parse(c.in, c.now, c.edge)
		if c.refused {
			require.ErrorContains(t, err, "clocks were put forward", c.name)
			continue
		}
		require.NoError(t, err, c.name)
		want, err := time.Parse(time.RFC3339Nano, c.want)
		require.NoError(t, err)
		require.True(t, want.Equal(got), "%s: want %s, got %s", c.name, want, got.UTC())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"yesterday 13:50", "1d12h", "2026-11-29 13:50:07.5 +01:00", "1796046000", "13:5", "..", "0:00:00"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 30, 16, 5, 7, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		first, err := Parse(s, now, First)
		last, err2 := Parse(s, now, Last)
		if err2 != nil && err == nil || err == nil && last.Before(first) {
			t.Fatalf("%q: %v %v, %v %v", s, first, err, last, err2)
		}
	})
}
