package event

import (
	"fmt"
	"strconv"
)

// Sequence is a position in the Log. The first event or guard of a Log has
// Sequence 1; 0 is the position before it. Sequences grow by one with every
// stored message, and since guards take positions too, the Sequences of events
// alone may have gaps.
type Sequence uint64

// ParseSequence reads a Sequence as String writes it: decimal digits only.
func ParseSequence(s string) (Sequence, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || s[0] == '+' {
		return 0, &InvalidError{Field: "seq", Value: s, Rule: "must be a whole number from 0 to 18446744073709551615"}
	}
	return Sequence(n), nil
}

// String gives the decimal digits.
func (s Sequence) String() string { return strconv.FormatUint(uint64(s), 10) }

// IsZero reports whether s is the position before the first event.
func (s Sequence) IsZero() bool { return s == 0 }

// InvalidError names an invalid field of an input and the rule that it breaks. The call
// that returns it has changed nothing.
type InvalidError struct {
	Field string // as in the JSON: "type", "stream_id", …
	Value string // what was given; long values are cut for the message only
	Rule  string // what a valid value looks like
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid %s %s: %s", e.Field, quote(e.Value), e.Rule)
}

// quote quotes s for a message, cut after 80 bytes.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return strconv.Quote(s)
}
