package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"

	"durablestream/event"
)

// readDepth is how deep encoding/json reads.
const readDepth = 10_000

// tooDeep is what to answer to a line that encoding/json does not take for the depth of
// its objects and arrays alone: whose answer it is, as far as the line says, and why. It
// keeps no stack, since a line may open a bracket with every byte.
func tooDeep(line []byte) (id json.RawMessage, err error) {
	id = nullID
	depth, deepest := 0, 0
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		case '"':
			end := event.StringEnd(line, i)
			if depth == 1 && string(line[i:end]) == `"id"` {
				id = idAfter(line[end:], id)
			}
			i = end - 1
		}
	}
	if depth != 0 || deepest <= readDepth {
		return nullID, nil
	}
	return id, &event.InvalidError{Field: "params", Value: string(line), Rule: fmt.Sprintf("must be nested at most %d levels deep, counting the event's own object", event.MaxDepth)}
}

// idAfter reads an id, which is a string, a number or null, behind its name.
func idAfter(rest []byte, otherwise json.RawMessage) json.RawMessage {
	rest, named := bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r"), []byte(":"))
	rest = bytes.TrimLeft(rest, " \t\r")
	if !named || len(rest) == 0 {
		return otherwise
	}
	end := bytes.IndexAny(rest, ",}")
	if rest[0] == '"' {
		end = event.StringEnd(rest, 0)
	}
	if end < 0 || rest[0] != '"' && rest[0] != '-' && (rest[0] < '0' || rest[0] > '9') {
		return otherwise
	}
	if v := bytes.TrimRight(rest[:end], " \t\r"); json.Valid(v) {
		return v
	}
	return otherwise
}
