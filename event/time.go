package event

import (
	"encoding/json"
	"strconv"
	"time"
)

// Time is a time.Time that is Unix time in whole milliseconds in JSON. The zero Time is 0.
type Time struct{ time.Time }

// Milli returns the Time of a Unix time in milliseconds; that of 0 is the zero Time.
func Milli(ms int64) Time {
	if ms == 0 {
		return Time{}
	}
	return Time{time.UnixMilli(ms)}
}

// Milli returns the Unix time in milliseconds; that of the zero Time is 0.
func (t Time) Milli() int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, t.Milli(), 10), nil }

// UnmarshalJSON implements json.Unmarshaler. It takes what an int64 takes.
func (t *Time) UnmarshalJSON(b []byte) error {
	ms := t.Milli()
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	*t = Milli(ms)
	return nil
}

// A number that should be Unix milliseconds is read as something else by its size alone.
// Smaller numbers than those of seconds are taken: tests and legacy files count from 0.
const (
	leastSeconds = 1e8  // 1973 in Unix seconds, the second day of 1970 in milliseconds
	leastMillis  = 1e11 // 1973 in Unix milliseconds, 5138 in seconds
	leastMicros  = 1e14 // 1973 in Unix microseconds, 5138 in milliseconds
)

// Seconds reports that a number which should be Unix milliseconds can only be seconds:
// read as milliseconds it is in the first years after 1970.
func Seconds(ms int64) bool { return ms >= leastSeconds && ms < leastMillis }

// ValidateTimestamp checks the Timestamp of a new event: the Log keeps what it accepts, and
// readers select by it. ValidateTimestamp returns an *InvalidError for a number that looks
// like seconds, microseconds or nanoseconds. Import, restore and the mirror do not call it:
// they keep what is stored.
//
// On a machine whose own clock is that far off, ValidateTimestamp accepts every number: the
// caller took it from that clock.
func ValidateTimestamp(at time.Time) error {
	return validateTimestamp(Time{at}.Milli(), time.Now().UnixMilli)
}

func validateTimestamp(ms int64, now func() int64) error {
	odd := func(ms int64) bool { return Seconds(ms) || ms >= leastMicros }
	switch {
	case !odd(ms) || odd(now()):
		return nil
	case Seconds(ms):
		return &InvalidError{"timestamp", strconv.FormatInt(ms, 10), "must be Unix time in milliseconds; this looks like seconds"}
	}
	return &InvalidError{"timestamp", strconv.FormatInt(ms, 10), "must be Unix time in milliseconds; this is after the year 5138, and looks like microseconds or nanoseconds"}
}
