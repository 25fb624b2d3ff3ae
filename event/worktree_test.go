package event

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithWorktree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, name, want string }{
		{"", "", ""},
		{"", "feature", `{"worktree":"feature"}`},
		{`{}`, "feature", `{"worktree":"feature"}`},
		{`{"n":1.50}`, "fea\"ture", `{"n":1.50,"worktree":"fea\"ture"}`},
		{`{"worktree":"other","n":1}`, "feature", `{"worktree":"other","n":1}`},
		{`{"in":{"worktree":1}}`, "feature", `{"in":{"worktree":1},"worktree":"feature"}`},
	} {
		var in json.RawMessage
		if c.in != "" {
			in = json.RawMessage(c.in)
		}
		require.Equal(t, c.want, string(WithWorktree(in, c.name)))
		require.Equal(t, c.in, string(in), "what was given stays")
	}
}
