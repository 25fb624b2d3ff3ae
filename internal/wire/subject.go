// Package wire defines everything that goes over NATS: subjects, headers, the bodies of
// messages and the configuration of the Log. No other package contains the text of a
// subject or a header.
package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"durablestream/event"
)

// The subjects of the Log. Events live under Events, guards under Guards.
const (
	Events = "events"
	Guards = "guards"

	AllEvents = Events + ".>"
	AllGuards = Guards + ".>"
)

// EventSubject returns events.<type>.<stream token>. Both must be valid.
func EventSubject(typ, streamID string) string {
	return Events + "." + typ + "." + Token(streamID)
}

// ParseEventSubject is the inverse of EventSubject.
func ParseEventSubject(subject string) (typ, streamID string, err error) {
	rest, ok := strings.CutPrefix(subject, Events+".")
	cut := strings.LastIndexByte(rest, '.')
	if !ok || cut < 0 {
		return "", "", fmt.Errorf("wire: subject %q is not events.<type>.<stream>", subject)
	}
	if err := event.ValidateType(rest[:cut]); err != nil {
		return "", "", fmt.Errorf("wire: subject %q: %w", subject, err)
	}
	streamID, err = ParseToken(rest[cut+1:])
	return rest[:cut], streamID, err
}

// Token writes any non-empty string as one NATS token: each byte that a token
// cannot hold, and %, becomes %XX in upper-case hexadecimal.
func Token(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	done := 0 // s[:done] is in b
	for i := 0; i < len(s); {
		n, bad := escaped(s[i:])
		if bad {
			b.WriteString(s[done:i])
			for _, c := range []byte(s[i : i+n]) {
				b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			}
			done = i + n
		}
		i += n
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// escaped returns the length of the first character of s in bytes, and whether a token
// cannot hold it: white space and control bytes end a subject, dots, * and > have a
// meaning in one, 0x7f is a marker inside the server's subject tree, and % is ours.
// U+FFFD, and bytes that are not UTF-8, are what the server takes for a sign that its
// index of the store is corrupt (filestore.go, recoverFullState): it throws the index
// away and reads the whole store at each start.
func escaped(s string) (n int, bad bool) {
	if c := s[0]; c < utf8.RuneSelf {
		return 1, c <= ' ' || c == 0x7f || c == '.' || c == '*' || c == '>' || c == '%'
	}
	r, n := utf8.DecodeRuneInString(s)
	return n, r == utf8.RuneError
}

// ParseToken is the inverse of Token. It refuses what Token would not write, so
// that no two tokens name the same string.
func ParseToken(tok string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(tok); i++ {
		c := tok[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(tok) {
			return "", fmt.Errorf("wire: token %q ends inside an escape", tok)
		}
		hi, ok1 := unhex(tok[i+1])
		lo, ok2 := unhex(tok[i+2])
		if !ok1 || !ok2 {
			return "", fmt.Errorf("wire: token %q has a bad escape at byte %d", tok, i)
		}
		b.WriteByte(hi<<4 | lo)
		i += 2
	}
	if s := b.String(); s != "" && Token(s) == tok {
		return s, nil
	}
	return "", fmt.Errorf("wire: token %q is not in the one form that is written", tok)
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// FilterSubjects returns subjects that together hold every event that f can match,
// without overlaps, as a consumer requires. They may hold further events: readers check
// each event with f.Match.
func FilterSubjects(f event.Filter) []string {
	stream := "*"
	if f.StreamID != "" {
		stream = Token(f.StreamID)
	}
	if len(f.Types) == 0 && f.StreamID == "" {
		return []string{AllEvents}
	}
	patterns := f.Types
	if len(patterns) == 0 {
		patterns = []string{">"}
	}
	var subjects []string
	for _, p := range patterns {
		head, open := strings.CutSuffix(p, ">")
		switch {
		case !open:
			subjects = append(subjects, Events+"."+p+"."+stream)
		case f.StreamID == "":
			subjects = append(subjects, Events+"."+head+">")
		default: // one subject a depth, since > cannot stand before the stream
			have := strings.Count(head, ".")
			for depth := max(event.MinTypeTokens, have+1); depth <= event.MaxTypeTokens; depth++ {
				subjects = append(subjects, Events+"."+head+strings.Repeat("*.", depth-have)+stream)
			}
		}
	}
	return disjoint(subjects)
}

// InSubjects reports whether a message's subject is among subjects as a consumer's
// filters name them.
func InSubjects(filters []string, subject string) bool {
	return slices.ContainsFunc(filters, func(f string) bool { return event.MatchType(f, subject) }) // * and > mean the same
}

// disjoint replaces overlapping subjects by one that holds both, until none
// overlap.
func disjoint(subjects []string) []string {
	var out []string
	for _, s := range subjects {
		for i := 0; i < len(out); {
			if overlap(out[i], s) {
				s = cover(out[i], s)
				out = append(out[:i], out[i+1:]...)
				i = 0 // the wider subject may meet one that was passed already
				continue
			}
			i++
		}
		out = append(out, s)
	}
	return out
}

func overlap(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if x[i] == ">" || y[i] == ">" {
			return true
		}
		if x[i] != y[i] && x[i] != "*" && y[i] != "*" {
			return false
		}
	}
	return len(x) == len(y)
}

// cover gives the narrowest subject that holds both of two that overlap.
func cover(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	var out []string
	for i := range min(len(x), len(y)) {
		switch {
		case x[i] == ">" || y[i] == ">":
			return strings.Join(append(out, ">"), ".")
		case x[i] == y[i]:
			out = append(out, x[i])
		default:
			out = append(out, "*")
		}
	}
	return strings.Join(out, ".")
}
