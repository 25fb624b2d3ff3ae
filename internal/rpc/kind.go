package rpc

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"

	"durablestream/event"
)

// wrongKind names the member of params that Go could not read into its type, with the value
// as it was sent, or the value's kind if it is within a list.
func wrongKind(params json.RawMessage, kind *json.UnmarshalTypeError) error {
	v, value := params, ""
	var path []string
	for name := range strings.SplitSeq(kind.Field, ".") {
		var in map[string]json.RawMessage
		if json.Unmarshal(v, &in) != nil { // within a list
			path, value = append(path, name), kind.Value
			continue
		}
		if in[name] == nil {
			continue // encoding/json also names the embedded struct, which callers do not know
		}
		path, v = append(path, name), in[name]
	}
	switch {
	case len(path) == 0: // the caller wrote the name in other letters, such as "Since"
		path, value = append(path, kind.Field[strings.LastIndexByte(kind.Field, '.')+1:]), kind.Value
	case value == "":
		value = string(v)
	}
	return &event.InvalidError{Field: strings.Join(path, "."), Value: short(value), Rule: kindRule(kind.Type)}
}

// kindRule says what a member must be that Go reads into a t.
func kindRule(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "must be a string"
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int, reflect.Int64:
		return fmt.Sprintf("must be a whole number of at most %d, in digits alone", math.MaxInt64)
	case reflect.Uint64:
		return fmt.Sprintf("must be a whole number from 0 to %d, in digits alone", uint64(math.MaxUint64))
	case reflect.Slice:
		return "must be a list"
	case reflect.Struct, reflect.Map:
		return "must be an object"
	}
	return "must be of the kind that docs/protocol.md says"
}
