package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// names remembers names: in a slice while there are few, which is nearly always,
// and in a map when there are many, so that a line of a million fields does not
// cost a million squared.
type names struct {
	few  []string
	many map[string]struct{}
}

// add reports whether name is new.
func (n *names) add(name string) bool {
	if n.many == nil {
		if slices.Contains(n.few, name) {
			return false
		}
		if n.few = append(n.few, name); len(n.few) < 32 {
			return true
		}
		n.many = make(map[string]struct{}, 2*len(n.few))
		for _, f := range n.few {
			n.many[f] = struct{}{}
		}
		return true
	}
	before := len(n.many)
	n.many[name] = struct{}{}
	return len(n.many) > before
}

var errNotObject = errors.New("not an object")

// members calls f for each top-level member of line, which must be valid JSON.
// Values are slices of line.
func members(line []byte, f func(name string, v json.RawMessage) error) error {
	i := skipSpace(line, 0)
	if i >= len(line) || line[i] != '{' {
		return &InvalidError{"line", string(line), "must be one JSON object"}
	}
	i = skipSpace(line, i+1)
	for i < len(line) && line[i] != '}' {
		end := valueEnd(line, i)
		name, err := memberName(line[i:end])
		if err != nil {
			return err
		}
		i = skipSpace(line, end) // at ':'
		i = skipSpace(line, i+1) // at the value
		end = valueEnd(line, i)  // after it
		if end <= i || end > len(line) {
			return fmt.Errorf("event: %w", errNotObject)
		}
		if err := f(name, line[i:end:end]); err != nil {
			return err
		}
		i = skipSpace(line, end) // at ',' or '}'
		if i < len(line) && line[i] == ',' {
			i = skipSpace(line, i+1)
		}
	}
	return nil
}

// memberName is the name of a member; those of an event cost no memory.
func memberName(v []byte) (string, error) {
	for _, name := range known {
		if len(v) == len(name)+2 && string(v[1:len(v)-1]) == name {
			return name, nil
		}
	}
	return decodeString("field name", v)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the index after the JSON value that starts at b[i].
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = StringEnd(b, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of a number or literal before it
			}
			depth--
			if depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// StringEnd returns the index after the JSON string whose opening quote is b[i], or len(b) if
// the string does not end.
func StringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
