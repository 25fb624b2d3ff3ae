package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func linesOf(t testing.TB, r io.Reader) []string {
	t.Helper()
	q := newQueue()
	require.NoError(t, readLines(context.Background(), r, q))
	var got []string
	for {
		line, ok := q.take(context.Background())
		if !ok {
			return got
		}
		got = append(got, string(line))
	}
}

func TestReadLines(t *testing.T) {
	t.Parallel()
	most := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n \r\n\n", nil},
		{"a\nb\r\nc", []string{"a", "b\r", "c"}},
		{most + "\nb\n", []string{most, "b"}},
		{most + "x\nb\n", []string{"\n", "b"}}, // too long, and what follows is read
		{most + "x" + most, []string{"\n"}},
	} {
		require.Equal(t, c.want, linesOf(t, strings.NewReader(c.in)), "%.20q", c.in)
	}
	require.Equal(t, []string{"ab", "c"}, linesOf(t, iotest.OneByteReader(strings.NewReader("ab\nc\n"))))
}

// Whatever comes in is answered with one line of JSON for each line that is not blank,
// and nothing that is no request is carried out.
func FuzzLine(f *testing.F) {
	for _, s := range []string{`{"jsonrpc":"2.0","id":1,"method":"none"}`, `[]`, `5`, `{"id":{}}`, `{"jsonrpc":"2.0","id":null,"method":"x","params":[1]}`, "\x00", `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		in = bytes.ReplaceAll(in, []byte("\n"), []byte(" "))
		var req struct{ Method any }
		if json.Unmarshal(in, &req) == nil {
			if name, _ := req.Method.(string); methods[name].do != nil {
				t.Skip("it needs a log")
			}
		}
		s := &server{cfg: Config{Logger: discard}, out: newQueue()}
		s.line(in)
		s.out.end()
		for n := 0; ; n++ {
			line, ok := s.out.take(t.Context())
			if !ok {
				break
			}
			require.Less(t, n, 1)
			require.True(t, json.Valid(line), "%s", line)
			require.Equal(t, 1, bytes.Count(line, []byte("\n")))
		}
	})
}
