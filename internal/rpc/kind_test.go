package rpc

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// A member of the wrong kind is named as the caller wrote it, with its value.
func TestWrongKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ params, field, value, rule string }{
		{`{"since":"5s"}`, "since", `"5s"`, "must be a whole number"},
		{`{"after":-1}`, "after", "-1", "from 0 to 18446744073709551615"},
		{`{"after":1.5}`, "after", "1.5", "from 0 to"},
		{`{"Since":"5s"}`, "since", "string", "must be a whole number"},
		{`{"limit":"ten"}`, "limit", `"ten"`, "must be a whole number"},
		{`{"last":"ten"}`, "last", `"ten"`, "must be a whole number"},
		{`{"types":"task.*"}`, "types", `"task.*"`, "must be a list"},
		{`{"stream_id":{"a":[1]}}`, "stream_id", `{"a":[1]}`, "must be a string"},
		{`{"linearizable":"yes"}`, "linearizable", `"yes"`, "must be true or false"},
	} {
		var p struct {
			filterParams
			Last         int  `json:"last"`
			Linearizable bool `json:"linearizable"`
		}
		err := decode(json.RawMessage(c.params), &p)
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid, c.params)
		require.Equal(t, c.field, invalid.Field, c.params)
		require.Equal(t, c.value, invalid.Value, c.params)
		require.Contains(t, invalid.Rule, c.rule)
		require.NotContains(t, err.Error(), "Params")
	}
	var in struct {
		A struct {
			B int `json:"b"`
		} `json:"a"`
		L []int `json:"l"`
	}
	var invalid *event.InvalidError
	require.ErrorAs(t, decode(json.RawMessage(`{"a":{"b":"x"}}`), &in), &invalid)
	require.Equal(t, []string{"a.b", `"x"`}, []string{invalid.Field, invalid.Value})
	require.ErrorAs(t, decode(json.RawMessage(`{"l":[1,"x"]}`), &in), &invalid)
	require.Equal(t, "l", invalid.Field)
}
