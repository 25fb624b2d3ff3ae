package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/client"
	"durablestream/event"
)

func errorIs[T error](err error) (target T, ok bool) { ok = errors.As(err, &target); return target, ok }

func TestActionHash(t *testing.T) {
	t.Parallel()
	hash := func(s string) string {
		h, err := client.ActionHash(json.RawMessage(s))
		require.NoError(t, err, s)
		return h
	}
	require.Equal(t, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", hash(`{}`), "SHA-256 of {}")
	require.Equal(t, "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777", hash(`{"b":2, "a":1}`), `SHA-256 of {"a":1,"b":2}`)
	for _, same := range [][]string{
		{`{"a":1,"b":{"c":2,"d":[1,2]}}`, `{ "b" : {"d":[1, 2],"c":2}, "a":1 }`, "{\n\t\"a\":1,\"b\":{\"c\":2,\"d\":[1,2]}}\n"},
		{`"é"`, `"\u00e9"`},
		{`"<&>"`, `"\u003c\u0026\u003e"`},
		{`"a/b"`, `"a\/b"`},
		{`"😀"`, `"\ud83d\ude00"`},
		{`{"é":1,"z":2}`, `{"z":2,"\u00e9":1}`},
		{`"\u2028"`, "\"\u2028\""},
		{`true`, ` true `},
	} {
		for _, s := range same[1:] {
			require.Equal(t, hash(same[0]), hash(s), s)
		}
	}
	different := []string{
		`1`, `1.0`, `1e0`, `10e-1`, `-0`, `0`, `"1"`, `null`, `[]`, `{}`, `[1,2]`, `[2,1]`, `{"a":1}`, `{"a":null}`, `{"A":1}`,
		`10000000000000000001`, `10000000000000000002`, `"e\u0301"`, `"é"`, `{"a":{"b":1}}`, `{"a":[{"b":1}]}`, `""`, `" "`,
	}
	seen := map[string]string{}
	for _, s := range different {
		require.Empty(t, seen[hash(s)], "%s has the hash of another", s)
		seen[hash(s)] = s
	}
	for _, bad := range []string{``, ` `, `{`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `[{"x":{"b":1,"b":2}}]`, `1 2`, `{} {}`, `nul`, `{a:1}`, `[1,]`, `01`} {
		_, err := client.ActionHash(json.RawMessage(bad))
		invalid, ok := errorIs[*event.InvalidError](err)
		require.True(t, ok, "%q: %v", bad, err)
		require.Equal(t, "action", invalid.Field)
	}
}

// However the members of an object are ordered and spaced, its hash is the same, and
// it differs from that of any other value.
func TestActionHashOfAnyJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.MapOf(rapid.String(), rapid.OneOf(
			rapid.Custom(func(t *rapid.T) any { return rapid.String().Draw(t, "s") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.Int32().Draw(t, "n") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.SliceOf(rapid.String()).Draw(t, "l") }),
		)).Draw(rt, "v")
		plain, err := json.Marshal(v)
		if bytes.Contains(plain, []byte("\ufffd")) || bytes.Contains(plain, []byte(`\ufffd`)) {
			rt.Skip("what stands for a broken character is refused")
		}
		require.NoError(rt, err)
		indented, err := json.MarshalIndent(v, " ", "\t")
		require.NoError(rt, err)
		a, err := client.ActionHash(plain)
		require.NoError(rt, err)
		b, err := client.ActionHash(indented)
		require.NoError(rt, err)
		require.Equal(rt, a, b)
		if _, taken := v["one more"]; !taken {
			v["one more"] = 1
			more, err := json.Marshal(v)
			require.NoError(rt, err)
			c, err := client.ActionHash(more)
			require.NoError(rt, err)
			require.NotEqual(rt, a, c)
		}
	})
}
