package rpc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTooDeep(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for _, c := range []struct {
		line, id string
		deep     bool
	}{
		{`{"jsonrpc":"2.0","id":7,"params":` + deep + `}`, `7`, true},
		{`{"params":{"id":9,"x":` + deep + `}, "id" : "a\",b" }`, `"a\",b"`, true},
		{`{"x":"\"id\":5","y":"id","params":` + deep + `,"id":-3.5}`, `-3.5`, true},
		{`{"params":` + deep + `,"id":{}}`, `null`, true},
		{`{"params":` + deep + `,"id":null}`, `null`, true},
		{`{"params":` + deep + `}`, `null`, true},
		{deep, `null`, true},
		{`{"id":1,"params":` + strings.Repeat("[", 20_000), `null`, false}, // cut off
		{`{"id":1,"params":[`, `null`, false},
		{`{"id":1,"params":"` + deep, `null`, false},
		{`{"id"`, `null`, false}, {`{"id":`, `null`, false}, {`{"id\`, `null`, false}, {`}}`, `null`, false},
	} {
		id, err := tooDeep([]byte(c.line))
		require.Equal(t, c.id, string(id), "%.60s", c.line)
		if c.deep {
			require.ErrorContains(t, err, "must be nested at most 1000 levels deep")
		} else {
			require.NoError(t, err)
		}
	}
}

// A member of the wrong kind is named with its value and its rule.
func TestDecodeNamesTheKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ params, says string }{
		{`{"n":9223372036854775808}`, `invalid n "9223372036854775808": must be a whole number of at most 9223372036854775807, in digits alone`},
		{`{"n":1e30}`, `invalid n "1e30": must be a whole number of at most`},
		{`{"n":"5"}`, `invalid n "\"5\"": must be a whole number of at most`},
		{`{"s":5}`, `invalid s "5": must be a string`},
		{`{"l":"x"}`, `invalid l "\"x\"": must be a list`},
		{`{"b":1}`, `invalid b "1": must be true or false`},
		{`{"o":[]}`, `invalid o "[]": must be an object`},
		{`{"o":{"n":1.5}}`, `invalid o.n "1.5": must be a whole number of at most`},
	} {
		var into struct {
			N int64    `json:"n"`
			S string   `json:"s"`
			L []string `json:"l"`
			B bool     `json:"b"`
			O struct {
				N int `json:"n"`
			} `json:"o"`
		}
		require.ErrorContains(t, decode([]byte(c.params), &into), c.says)
	}
}
