// Package canonical writes JSON in one form only, so that the same value has the same hash.
package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"durablestream/event"
)

// JSON gives the canonical form of v: see client.ActionHash, which says its rules. What has
// none is an *event.InvalidError.
func JSON(v json.RawMessage) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(v))
	dec.UseNumber()
	out, err := appendCanonical(nil, dec)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		return nil, &event.InvalidError{Field: "action", Value: string(v), Rule: "must be JSON without repeated members: " + err.Error()}
	}
	return out, nil
}

func appendCanonical(dst []byte, dec *json.Decoder) ([]byte, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '[' {
			return appendArray(dst, dec)
		}
		return appendObject(dst, dec)
	case json.Number:
		return append(dst, t...), nil
	case string:
		return appendText(dst, t)
	case bool:
		return fmt.Appendf(dst, "%t", t), nil
	default:
		return append(dst, "null"...), nil
	}
}

func appendArray(dst []byte, dec *json.Decoder) ([]byte, error) {
	dst = append(dst, '[')
	for first := true; dec.More(); first = false {
		if !first {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendCanonical(dst, dec); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return append(dst, ']'), err
}

func appendObject(dst []byte, dec *json.Decoder) ([]byte, error) {
	members := map[string][]byte{}
	var names []string
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("the member %q is given twice", name)
		}
		if members[name], err = appendCanonical(nil, dec); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendText(dst, name); err != nil {
			return nil, err
		}
		dst = append(append(dst, ':'), members[name]...)
	}
	return append(dst, '}'), nil
}

// appendText refuses U+FFFD: half of a surrogate pair reads as that, and two
// actions would look like one.
func appendText(dst []byte, s string) ([]byte, error) {
	if strings.ContainsRune(s, '\ufffd') {
		return nil, errors.New("a string holds U+FFFD, or half of a surrogate pair")
	}
	return event.AppendString(dst, s), nil
}
