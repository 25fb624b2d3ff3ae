// Package when reads points in time as people write them.
package when

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Edge chooses an instant if the text names more than one: a day, or a time of day that
// occurs twice at the end of summer time.
type Edge bool

// The edges.
const (
	First Edge = false // the start of a day; for a lower bound
	Last  Edge = true  // the last millisecond of a day; for an upper bound
)

// Forms lists what Parse understands, for error messages.
const Forms = "a date (2026-11-29), a date and a time (2026-11-29 13:50, with Z, +01:00 or +0100 behind it for another zone), " +
	"a time of today (13:50), now, today, yesterday (yesterday 13:50), a time ago (90m, 2h ago, 7d, 1d12h, 3 weeks ago), or Unix time in milliseconds"

// Parse reads s in the zone of now. Days and weeks ago are calendar days: 1d ago is the
// same time of day yesterday, even where summer time began or ended between.
//
// edge decides whether a bare day means its start or its end. Parse returns an error for
// a text that it does not understand; for a time of day that the day does not have; for a
// lower bound that is a time of day still to come (the user meant yesterday's, and would
// get no events); and for a number that is implausible as Unix milliseconds, above all
// seconds.
func Parse(s string, now time.Time, edge Edge) (time.Time, error) {
	s = strings.Join(strings.Fields(s), " ")
	t, err := parse(s, now, edge)
	if err == nil && (t.UnixMilli() < 0 || t.Year() > 9999) {
		err = fmt.Errorf("is the year %d: must be from 1970 to 9999", t.Year())
	}
	return t, err
}

func parse(s string, now time.Time, edge Edge) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return millis(n, now.Location())
	}
	if t, ok := absolute(s); ok {
		return t, nil
	}
	switch s := strings.ToLower(s); s {
	case "now":
		return now, nil
	case "today", "yesterday":
		return edge.day(day(now, s)), nil
	}
	if t, ok := date(s, now.Location()); ok {
		return edge.day(t), nil
	}
	first, rest, two := strings.Cut(s, " ")
	if !two && len(s) > 10 && (s[10] == 'T' || s[10] == 't') {
		first, rest, two = s[:10], s[11:], true
	}
	if !two {
		if c, ok := clock(s); ok {
			t, err := edge.at(now, c)
			if err == nil && edge == First && t.After(now) {
				err = fmt.Errorf("is still to come today: write yesterday %s, or a date with it", s)
			}
			return t, err
		}
	} else if c, ok := clock(rest); ok {
		if t, ok := date(first, now.Location()); ok {
			return edge.at(t, c)
		}
		if word := strings.ToLower(first); word == "today" || word == "yesterday" {
			return edge.at(day(now, word), c)
		}
	}
	return ago(s, now)
}

// millis reads a number. It returns an error for a number too small or too large to be
// plausible Unix milliseconds, since a query with it would silently return all events or
// none.
func millis(n int64, loc *time.Location) (time.Time, error) {
	const (
		second = 1e8  // 1973 in Unix seconds, the second day of 1970 in milliseconds
		early  = 1e11 // 1973 in Unix milliseconds, 5138 in seconds
		late   = 1e14 // 5138 in milliseconds
	)
	in := func(t time.Time) string { return t.In(loc).Format("2006-01-02 15:04") }
	switch {
	case n == 0 || n >= early && n < late:
		return time.UnixMilli(n), nil
	case n >= late:
		return time.Time{}, errors.New("is no Unix time in milliseconds, but perhaps one in microseconds or nanoseconds: write milliseconds")
	case n >= second:
		return time.Time{}, fmt.Errorf("looks like Unix time in seconds (%s), and would be read as milliseconds (%s): write %d000, or a date", in(time.Unix(n, 0)), in(time.UnixMilli(n)), n)
	}
	return time.Time{}, errors.New("is a number too small for Unix time in milliseconds: write a date such as 2026-11-29, or a time ago such as 90m")
}

// absolute reads a date and a time that name their zone.
func absolute(s string) (time.Time, bool) {
	s = strings.ToUpper(s)
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00",
		"2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02 15:04 Z07:00",
		// as date prints %z
		"2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700",
		"2006-01-02T15:04Z0700", "2006-01-02 15:04Z0700", "2006-01-02 15:04 Z0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// day is the noon of today or yesterday.
func day(now time.Time, word string) time.Time {
	y, m, d := now.Date()
	if word == "yesterday" {
		d--
	}
	return time.Date(y, m, d, 12, 0, 0, 0, now.Location())
}

// date reads a date and gives its noon.
func date(s string, loc *time.Location) (time.Time, bool) {
	t, err := time.ParseInLocation("2006-01-02 15", s+" 12", loc)
	return t, err == nil
}

// clock reads a time of day, as the time since midnight on a clock on the wall.
func clock(s string) (time.Duration, bool) {
	for _, layout := range []string{"15:04", "15:04:05"} { // the second may have a fraction
		if t, err := time.Parse(layout, s); err == nil {
			return t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)), true
		}
	}
	return 0, false
}

// day gives the first or the last millisecond of the day of t.
func (e Edge) day(t time.Time) time.Time {
	if e == Last {
		return First.day(t.AddDate(0, 0, 1)).Add(-time.Millisecond)
	}
	if at := onWall(t, 0); len(at) > 0 {
		return at[0]
	}
	// Summer time begins at midnight, so that the day begins later on the wall. This
	// instant is the end of the day before, and so the beginning of this one.
	_, offset := t.AddDate(0, 0, -1).Zone()
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(-time.Duration(offset) * time.Second).In(t.Location())
}

// at gives the instant of the day of t at which clocks show the time c.
func (e Edge) at(t time.Time, c time.Duration) (time.Time, error) {
	at := onWall(t, c)
	switch {
	case len(at) == 0:
		return t, fmt.Errorf("does not exist: clocks were put forward over it on %s", t.Format("2006-01-02"))
	case e == Last:
		return at[len(at)-1], nil
	}
	return at[0], nil
}

// onWall gives the instants of the day of t at which clocks on the wall show the time c:
// one, two in order where they were put back, none where they were put forward.
func onWall(t time.Time, c time.Duration) (at []time.Time) {
	y, m, d := t.Date()
	wall := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(c)
	for _, around := range []time.Time{t.AddDate(0, 0, -1), t.AddDate(0, 0, 1)} {
		_, offset := around.Zone()
		u := wall.Add(-time.Duration(offset) * time.Second).In(t.Location())
		if _, is := u.Zone(); is == offset && (len(at) == 0 || !at[0].Equal(u)) {
			at = append(at, u)
		}
	}
	if len(at) == 2 && at[1].Before(at[0]) {
		at[0], at[1] = at[1], at[0]
	}
	return at
}

// units are the names of lengths of time; a day and longer is counted in days.
var units = map[string]struct {
	length time.Duration
	days   int
}{
	"ms": {length: time.Millisecond},
	"s":  {length: time.Second}, "sec": {length: time.Second}, "secs": {length: time.Second}, "second": {length: time.Second}, "seconds": {length: time.Second},
	"m": {length: time.Minute}, "min": {length: time.Minute}, "mins": {length: time.Minute}, "minute": {length: time.Minute}, "minutes": {length: time.Minute},
	"h": {length: time.Hour}, "hr": {length: time.Hour}, "hrs": {length: time.Hour}, "hour": {length: time.Hour}, "hours": {length: time.Hour},
	"d": {days: 1}, "day": {days: 1}, "days": {days: 1},
	"w": {days: 7}, "week": {days: 7}, "weeks": {days: 7},
}

var errForms = errors.New("must be " + Forms)

// ago reads a time ago: numbers with units, such as 1h30m or "2 days ago".
func ago(s string, now time.Time) (time.Time, error) {
	const most = 1e6 // days: more than what is representable needs
	s = strings.ToLower(s)
	s = strings.ReplaceAll(strings.TrimSuffix(s, " ago"), " ", "")
	var length time.Duration
	days := 0
	for first := true; first || s != ""; first = false {
		number := s[:len(s)-len(strings.TrimLeft(s, "0123456789."))]
		s = s[len(number):]
		name := s[:len(s)-len(strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz"))]
		s = s[len(name):]
		unit, ok := units[name]
		n, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil {
			return now, errForms
		}
		if unit.days > 0 {
			if n != math.Trunc(n) {
				return now, errors.New("days and weeks are whole numbers: write hours")
			}
			n *= float64(unit.days)
		} else {
			n *= float64(unit.length)
		}
		switch {
		case unit.days > 0 && n <= most && days <= most:
			days += int(n)
		case unit.days == 0 && n < 1<<61 && length < 1<<61:
			length += time.Duration(n)
		default:
			return now, errors.New("is longer ago than 1970")
		}
	}
	return now.AddDate(0, 0, -days).Add(-length), nil
}
