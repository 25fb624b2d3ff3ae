package event

import (
	"math"
	"strconv"
	"time"
)

// Durations travel in whole milliseconds, as int64. As a time.Duration, which counts
// nanoseconds, the largest of them wrap round to something short or negative, and "never"
// becomes "at once". These are the only ways from one to the other.

// MaxMillis is the longest time.Duration, in milliseconds: some 292 years.
const MaxMillis = math.MaxInt64 / int64(time.Millisecond)

// Millis is a duration that somebody gives in milliseconds. field names it in the
// *InvalidError for one that is negative or more than MaxMillis.
func Millis(field string, ms int64) (time.Duration, error) {
	if ms < 0 || ms > MaxMillis {
		return 0, &InvalidError{field, strconv.FormatInt(ms, 10), "must be milliseconds from 0 to " + strconv.FormatInt(MaxMillis, 10)}
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// StoredMillis is a duration that is stored already, in milliseconds: one that a
// time.Duration cannot hold is the longest that it can.
func StoredMillis(ms int64) time.Duration {
	return time.Duration(max(min(ms, MaxMillis), -MaxMillis)) * time.Millisecond
}

// LaterMillis is the Unix time at plus ms, which is 0 or more; the end of time where the
// sum is beyond it.
func LaterMillis(at, ms int64) int64 {
	if at > math.MaxInt64-ms {
		return math.MaxInt64
	}
	return at + ms
}
