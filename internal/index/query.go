package index

import (
	"slices"
	"strings"

	"durablestream/internal/wire"
)

// Query says which records are wanted: those that match all of what is set.
type Query struct {
	// Subjects are as a consumer's filters; nil: all.
	Subjects []string
	// Actor and CorrelationID are exact.
	Actor, CorrelationID string
	// Since and Until bound the event's timestamp, in Unix ms, inclusive; 0: no bound.
	Since, Until int64
}

func (q Query) timed() bool { return q.Since != 0 || q.Until != 0 }

func (q Query) inTime(at int64) bool {
	return at != timeNil && at >= q.Since && (q.Until == 0 || at <= q.Until)
}

// records gives the numbers of the records that may be wanted, in order, or that all of
// them may be.
func (q Query) records(l lists) (found []uint32, all bool, err error) {
	found, all, err = q.bySubjects(l)
	for _, t := range []struct {
		kind byte
		word string
	}{{termActor, q.Actor}, {termCorrelation, q.CorrelationID}} {
		if err != nil || !all && len(found) == 0 {
			return nil, false, err
		}
		if t.word == "" {
			continue
		}
		var having []uint32
		having, err = l.term(term(t.kind, t.word))
		if !all {
			having = both(found, having)
		}
		found, all = having, false
	}
	return found, all, err
}

func (q Query) bySubjects(l lists) (found []uint32, all bool, err error) {
	if q.Subjects == nil {
		return nil, true, nil
	}
	known := map[uint64][]uint32{}
	byTerm := func(kind byte, word string) ([]uint32, error) {
		t := term(kind, word)
		if list, ok := known[t]; ok {
			return list, nil
		}
		list, err := l.term(t)
		known[t] = list
		return list, err
	}
	for _, s := range q.Subjects {
		list, every, err := bySubject(l, s, byTerm)
		if err != nil || every {
			return nil, every, err
		}
		found = append(found, list...)
	}
	slices.Sort(found)
	return slices.Compact(found), false, nil
}

// bySubject finds what a consumer's filter asks for: events.<type>.<stream> or
// guards.<kind>.<name>, with * and > as they may be.
func bySubject(l lists, s string, byTerm func(byte, string) ([]uint32, error)) (list []uint32, every bool, err error) {
	kind, name, open := s, "*", strings.HasSuffix(s, ">")
	if cut := strings.LastIndexByte(s, '.'); !open && cut >= 0 {
		kind, name = s[:cut], s[cut+1:]
	}
	top, rest, _ := strings.Cut(kind, ".")
	anyKind := strings.Trim(rest, "*.>") == ""
	switch {
	case top != wire.Events && top != wire.Guards:
		return nil, true, nil
	case name == "*" && anyKind:
		kind = top + ".>"
	}
	if name != "*" {
		is := byte(termStream)
		if top == wire.Guards {
			is = termGuard
		}
		if list, err = byTerm(is, name); err != nil || len(list) == 0 || anyKind {
			return list, false, err
		}
	}
	of, err := l.ofKinds(kind)
	slices.Sort(of)
	if name != "*" {
		of = both(list, of)
	}
	return of, false, err
}

// both gives what two ordered lists share.
func both(a, b []uint32) []uint32 {
	var out []uint32
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// Wants reports whether a record's subject is one that q asks for.
func (q Query) Wants(subject string) bool {
	return q.Subjects == nil || wire.InSubjects(q.Subjects, subject)
}
