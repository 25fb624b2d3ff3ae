package event

import (
	"math"
	"strconv"
	"time"
)

// Durations travel in whole milliseconds, as int64. As a time.Duration, which counts
// nanoseconds, the largest of them wrap round to something short or negative, and "never"
// becomes "at once". These are the only ways from one to the other.

// MaxMillis is the longest time.Duration, in milliseconds: about 292 years.
const MaxMillis = math.MaxInt64 / int64(time.Millisecond)

// Millis converts a caller's duration in milliseconds. For a negative duration, or one
// above MaxMillis, it returns an *InvalidError that names field.
func Millis(field string, ms int64) (time.Duration, error) {
	if ms < 0 || ms > MaxMillis {
		return 0, &InvalidError{field, strconv.FormatInt(ms, 10), "must be milliseconds from 0 to " + strconv.FormatInt(MaxMillis, 10)}
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// StoredMillis converts a stored duration in milliseconds. It returns the longest
// time.Duration for one that is too long.
func StoredMillis(ms int64) time.Duration {
	return time.Duration(max(min(ms, MaxMillis), -MaxMillis)) * time.Millisecond
}

// LaterMillis returns the Unix time at plus ms, which is 0 or more. If the sum overflows,
// it returns the largest time.
func LaterMillis(at, ms int64) int64 {
	if at > math.MaxInt64-ms {
		return math.MaxInt64
	}
	return at + ms
}
