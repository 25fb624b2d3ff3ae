package mirror

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// The vectors of docs/protocol.md, which another program computed.
func TestLineVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../docs/vectors/mirror.json")
	require.NoError(t, err)
	var v struct {
		Messages []struct {
			Seq  event.Sequence
			Body string
		}
		Lines []string
	}
	require.NoError(t, json.Unmarshal(b, &v))
	require.Len(t, v.Lines, 3)
	c, prev := newChainer(), origin
	for i, m := range v.Messages {
		var line []byte
		line, prev = c.appendLine(nil, m.Seq, []byte(m.Body), prev)
		require.Equal(t, v.Lines[i]+"\n", string(line))
		p, err := split(line[:len(line)-1])
		require.NoError(t, err)
		require.Equal(t, m.Body, string(p.body(line)))
	}
}
