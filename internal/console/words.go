package console

import (
	"fmt"
	"strings"
	"time"
)

// OneLine keeps a text from spoiling a table: Plain, without line ends, and cut to most
// characters.
func OneLine(s string, most int) string {
	s = strings.ReplaceAll(Plain(s), "\n", " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// Ago gives how long before now a time was: "5s ago".
func Ago(now, at time.Time) string {
	return now.Sub(at).Round(time.Second).String() + " ago"
}

// Clock gives a time as the clock in now's zone showed or will show it: with
// the date unless that is today's.
func Clock(now, at time.Time) string {
	t := at.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// Count gives "1 event", "2 events".
func Count[N int | uint64](n N, word string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// Size gives bytes as a person reads them.
func Size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// List names things one after the other, the first of them where they are many.
func List[T fmt.Stringer](things []T) string {
	const most = 20
	words := make([]string, 0, most+1)
	for i, t := range things {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(things)-most))
			break
		}
		words = append(words, t.String())
	}
	return strings.Join(words, ", ")
}
