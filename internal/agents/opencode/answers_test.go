package opencode_test

import (
	"encoding/json"
	"testing"

	"durablestream/event"
	"durablestream/internal/agents"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"

	"github.com/stretchr/testify/require"
)

// questions is the intake's fold of the questions of OpenCode.
func questions() *agents.Questions {
	return agents.NewQuestions(opencode.Agent(), opencode.Agent().New(source.Config{}))
}

func TestSameAction(t *testing.T) {
	t.Parallel()
	first := `{"opencode":"permission","id":"per_1","sessionID":"ses_1","permission":"bash","patterns":["a"],"metadata":{"x":1,"y":"z"},"always":["*"],"tool":{"callID":"1"}}`
	for name, c := range map[string]struct {
		other string
		same  bool
	}{
		"asked again":           {`{"opencode":"permission","id":"per_2","sessionID":"ses_1","permission":"bash","patterns":["a"],"metadata":{"y":"z","x":1},"always":[],"tool":{"callID":"2"}}`, true},
		"other escapes":         {`{"opencode":"permission","sessionID":"ses_1","permission":"b\u0061sh","patterns":["\u0061"],"metadata":{"x":1,"y":"z"}}`, true},
		"another session":       {`{"opencode":"permission","sessionID":"ses_2","permission":"bash","patterns":["a"],"metadata":{"x":1,"y":"z"}}`, false},
		"another permission":    {`{"opencode":"permission","sessionID":"ses_1","permission":"edit","patterns":["a"],"metadata":{"x":1,"y":"z"}}`, false},
		"another pattern":       {`{"opencode":"permission","sessionID":"ses_1","permission":"bash","patterns":["a","b"],"metadata":{"x":1,"y":"z"}}`, false},
		"other metadata":        {`{"opencode":"permission","sessionID":"ses_1","permission":"bash","patterns":["a"],"metadata":{"x":1.0,"y":"z"}}`, false},
		"no metadata":           {`{"opencode":"permission","sessionID":"ses_1","permission":"bash","patterns":["a"]}`, false},
		"not OpenCode's":        {`{"sessionID":"ses_1","permission":"bash","patterns":["a"],"metadata":{"x":1,"y":"z"}}`, false},
		"of neither kind":       {`{"opencode":"permission","sessionID":"ses_1"}`, false},
		"of no session":         {`{"opencode":"permission","permission":"bash","patterns":["a"]}`, false},
		"no object":             {`"x"`, false},
		"a number as a session": {`{"opencode":"permission","sessionID":1,"permission":"bash"}`, false},
	} {
		require.Equal(t, c.same, questions().SameAction(json.RawMessage(first), json.RawMessage(c.other)), name)
	}
	for _, unknown := range []string{ // not even itself
		`{"opencode":"permission","sessionID":"ses_1","permission":"bash","patterns":["\ud800"]}`,
		`{"opencode":"permission","sessionID":"ses_1","permission":"bash","patterns":["…[cut: 9 bytes in all, sha256 0]"]}`,
		`{"opencode":"permission","sessionID":"ses_1"}`,
		`{"opencode":"permission","sessionID":"ses_1","permission":"bash","metadata":{"x":1,"x":2}}`, // readers differ on which one counts
	} {
		require.False(t, questions().SameAction(json.RawMessage(unknown), json.RawMessage(unknown)), unknown)
	}
	q := `{"opencode":"question","id":"que_1","sessionID":"ses_1","questions":[{"question":"Deploy?","options":[{"label":"Yes"}]}]}`
	require.True(t, questions().SameAction(json.RawMessage(q), json.RawMessage(q)))
}

// The questions of the big capture all come to an end, and are forgotten.
func TestAnswersForget(t *testing.T) {
	t.Parallel()
	a := questions()
	asked, over := 0, 0
	for _, r := range record(replay(opencode.New(opencode.Config{Instance: "here:1"}), capture(t, "session-events"))) {
		if q := a.Apply(r); q != nil && r.Type == event.CheckpointRequested {
			asked++
			require.NotEmpty(t, q.Key)
			require.Equal(t, "here:1", q.Instance)
		} else if q != nil && q.Over {
			over++
		}
	}
	require.Positive(t, asked)
	require.Equal(t, asked, over)
	require.Empty(t, a.All())
}
