package event

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter selects events for a reader. The zero value selects all events; each field that
// is set narrows the selection.
type Filter struct {
	// StreamID: events of this stream only.
	StreamID string
	// Types: events whose type matches one of these patterns. A token * matches
	// any one token, a last token > matches one or more: "checkpoint.*", "ledger.>".
	Types []string
	// Actor, CorrelationID: exact values.
	Actor, CorrelationID string
	// Since, Until: bounds of Timestamp, both inclusive, in whole milliseconds as
	// Timestamp is; zero is no bound.
	Since, Until time.Time
	// After: events after this Sequence.
	After Sequence
	// Limit: at most this many, from the front; 0 is no limit.
	Limit int
	// Last: only this many of the newest, still in order; 0 is all. Not with Limit.
	Last int
	// Linearizable: a query sees every event whose append had returned to any client when
	// the query began. On a cluster this costs one small stored message. Not for
	// subscriptions. Match ignores it.
	Linearizable bool
}

// Bounds returns Since and Until as Unix time in milliseconds; 0 is no bound.
func (f Filter) Bounds() (since, until int64) { return Time{f.Since}.Milli(), Time{f.Until}.Milli() }

// Validate returns an *InvalidError for the first invalid field.
func (f Filter) Validate() error {
	if f.StreamID != "" {
		if err := ValidateStreamID(f.StreamID); err != nil {
			return err
		}
	}
	for _, p := range f.Types {
		if err := ValidatePattern(p); err != nil {
			return err
		}
	}
	since, until := f.Bounds()
	switch {
	case since < 0:
		return &InvalidError{"since", strconv.FormatInt(since, 10), "must be Unix time in milliseconds, 0 or later"}
	case until < 0:
		return &InvalidError{"until", strconv.FormatInt(until, 10), "must be Unix time in milliseconds, 0 or later"}
	case until != 0 && since > until:
		return &InvalidError{"since", strconv.FormatInt(since, 10), "must not be after until (" + strconv.FormatInt(until, 10) + ")"}
	case f.Limit < 0:
		return &InvalidError{"limit", strconv.Itoa(f.Limit), "must be 0 (no limit) or more"}
	case f.Last < 0:
		return &InvalidError{"last", strconv.Itoa(f.Last), "must be 0 (all) or more"}
	case f.Limit > 0 && f.Last > 0:
		return &InvalidError{"last", strconv.Itoa(f.Last), "cannot be combined with limit: one counts from the back, the other from the front"}
	}
	return nil
}

// ValidatePattern checks a type pattern.
func ValidatePattern(p string) error {
	if len(p) > MaxTypeLen {
		return &InvalidError{"type pattern", p, "must be at most 200 bytes"}
	}
	tokens := strings.Split(p, ".")
	for i, tok := range tokens {
		last := i == len(tokens)-1
		if tok != "*" && !isTypeToken(tok) && (tok != ">" || !last) {
			return &InvalidError{"type pattern", p, `each token must be letters, digits, _ or -, or *; the last may be >`}
		}
	}
	short := len(tokens) < MinTypeTokens && tokens[len(tokens)-1] != ">"
	if short || len(tokens) > MaxTypeTokens {
		return &InvalidError{"type pattern", p, `must be 2 to 8 tokens joined by dots, such as "checkpoint.*" or "ledger.>"`}
	}
	return nil
}

// MatchType reports whether a type matches a valid pattern.
func MatchType(pattern, typ string) bool {
	for {
		p, morePattern, pRest := cut(pattern)
		t, moreType, tRest := cut(typ)
		switch {
		case p == ">":
			return true
		case p != "*" && p != t:
			return false
		case morePattern != moreType:
			return false
		case !morePattern:
			return true
		}
		pattern, typ = pRest, tRest
	}
}

func cut(s string) (token string, more bool, rest string) {
	token, rest, more = strings.Cut(s, ".")
	return token, more, rest
}

// Match reports whether the filter selects r. It ignores Limit and Last, which the reader
// counts.
func (f Filter) Match(r Recorded) bool {
	since, until := f.Bounds()
	at := r.Milli()
	switch {
	case f.StreamID != "" && r.StreamID != f.StreamID,
		f.Actor != "" && r.Actor != f.Actor,
		f.CorrelationID != "" && r.CorrelationID != f.CorrelationID,
		since != 0 && at < since,
		until != 0 && at > until,
		r.Seq <= f.After:
		return false
	}
	return len(f.Types) == 0 || slices.ContainsFunc(f.Types, func(p string) bool { return MatchType(p, r.Type) })
}
