package agents_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents"
	"durablestream/internal/brokertest"
)

// told is what the agent was told.
type told struct {
	what   string
	params any
}

// toyRun is a run of the toy whose feed is taken in.
type toyRun struct {
	t    *testing.T
	in   *agents.Intake
	told chan told
	end  func()
}

func startToy(t *testing.T, c *client.Client, instance, runs string) *toyRun {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	r := &toyRun{t: t, told: make(chan told, 100)}
	in, err := agents.Start(ctx, agents.Config{
		Client: c, Agent: toyAgent(), Instance: instance, Runs: agents.Presence{Dir: runs},
		Notify: func(what string, params any) { r.told <- told{what, params} },
		Fail:   func(err error) { t.Errorf("the intake failed: %v", err) },
	})
	require.NoError(t, err)
	r.in = in
	r.end = sync.OnceFunc(func() {
		in.Leave()
		require.NoError(t, in.End(context.Background()))
		giveUp()
		in.Wait()
	})
	t.Cleanup(r.end)
	return r
}

// take hands over events, and returns how to wait for their answers.
func (r *toyRun) take(events ...string) (answers func() []int) {
	r.t.Helper()
	done := make([]chan int, len(events))
	for i, e := range events {
		done[i] = make(chan int, 1)
		r.in.Take(r.t.Context(), json.RawMessage(e), func(stored int, err error) {
			if err != nil {
				r.t.Errorf("%s: %v", e, err)
			}
			done[i] <- stored
		})
	}
	return func() []int {
		var out []int
		for _, d := range done {
			out = append(out, <-d)
		}
		return out
	}
}

func texts(t *testing.T, c *client.Client) []string {
	t.Helper()
	var out []string
	for r, err := range c.Query(t.Context(), event.Filter{Types: []string{"toy.said"}}) {
		require.NoError(t, err)
		var p struct{ Text string }
		require.NoError(t, json.Unmarshal(r.Payload, &p))
		out = append(out, p.Text)
	}
	return out
}

// The events of an agent of another kind are in the log in their order, those that wait
// for a tick are answered with it, and those that wait at the end with the end.
func TestAnotherAgent(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	r := startToy(t, h.Client, "here:1", "")
	var feed []string
	for i := range 20 {
		feed = append(feed, fmt.Sprintf(`{"id":"toy_%02d","do":"say","text":"%02d"}`, i, i))
	}
	feed = append(feed, `{"id":"toy_20","do":"begin","text":"20"}`)
	stored := r.take(feed...)()
	require.Equal(t, 1, stored[0])
	require.Equal(t, 0, stored[20], "nothing was made of it when it was taken")
	r.take(`{"id":"toy_21","do":"begin","text":"21"}`)
	r.in.Drain(t.Context())
	r.end()
	var want []string
	for i := range 22 {
		want = append(want, fmt.Sprintf("%02d", i))
	}
	require.Equal(t, want, texts(t, h.Client))

	// Its feed sent again to the next process is in the log once.
	next := startToy(t, h.Client, "here:1", "")
	next.take(feed...)()
	next.end()
	require.Equal(t, want, texts(t, h.Client))
}

// The files of runs are out of git's sight, where no host has made their directory.
func TestGitLeavesRunsAlone(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	host := filepath.Join(t.TempDir(), "log", "durable_stream")
	r := startToy(t, h.Client, "here:1", filepath.Join(host, "toy"))
	r.take(`{"id":"toy_1","do":"say","text":"1"}`)()
	got, err := os.ReadFile(filepath.Join(host, ".gitignore"))
	require.NoError(t, err)
	require.Equal(t, "*\n", string(got))
	require.DirExists(t, filepath.Join(host, "toy"))
}

// A person's decision comes back in the agent's own form, and to one question only.
func TestDecisionComesBack(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	r := startToy(t, h.Client, "here:1", "")
	r.take(`{"id":"wish_1","do":"ask","text":"May I?","action":{"toy":"ball"}}`)()
	_, err := h.Client.Checkpoints().Approve(t.Context(), "wish_1", client.Approval{By: "ann", Option: "yes"})
	require.NoError(t, err)
	require.Equal(t, told{"answer", map[string]string{"wish": "wish_1", "kind": "wish", "granted": "approved"}}, <-r.told)
	used := stored(t, h.Client, "toy.decision.used")
	require.Len(t, used, 1)
	require.Equal(t, "toy", used[0].Actor)
	require.JSONEq(t, `{"toy_instance":"here:1"}`, string(used[0].Metadata))
	require.JSONEq(t, `{"checkpoint_id":"wish_1","given_to":"wish_1","status":"approved","decided_by":"ann"}`, string(used[0].Payload))
}

// A question that was decided after its run had ended is answered when the same is asked
// again.
func TestDecisionOfARunThatEnded(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	runs := filepath.Join(t.TempDir(), "durable_stream", "toy")
	first := startToy(t, h.Client, "here:1", runs)
	first.take(`{"id":"wish_1","do":"ask","text":"May I?","action":{"toy":"ball"}}`)()
	first.end()
	_, err := h.Client.Checkpoints().Approve(t.Context(), "wish_1", client.Approval{By: "ann", Option: "yes"})
	require.NoError(t, err)

	next := startToy(t, h.Client, "here:2", runs)
	next.take(`{"id":"wish_2","do":"ask","text":"May I?","action":{"toy":"doll"}}`, `{"id":"wish_3","do":"ask","text":"May I?","action":{"toy":"ball"}}`)()
	require.Equal(t, told{"answer", map[string]string{"wish": "wish_3", "kind": "wish", "granted": "approved"}}, <-next.told)
	cp, err := h.Client.Checkpoints().Get(t.Context(), "wish_3")
	require.NoError(t, err)
	require.Equal(t, "ann", cp.Decision.By)
	require.Contains(t, cp.Decision.Comment, "before the Toy was interrupted")
}

// What the log refuses as a question is told to the human, and is in the log as it was said.
func TestRefusedQuestion(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	_, err := h.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{ID: "wish_1", StreamID: "ses", RequestedBy: "agent", DecisionPoint: "another?"})
	require.NoError(t, err)
	r := startToy(t, h.Client, "here:1", "")
	r.take(`{"id":"wish_1","do":"ask","text":"May I?","action":{"toy":"ball"}}`)()
	n := <-r.told
	require.Equal(t, "notice", n.what)
	require.Contains(t, n.params.(map[string]string)["text"], "can be answered in the Toy only")
	require.Equal(t, []string{"May I?"}, texts(t, h.Client))
}

func stored(t *testing.T, c *client.Client, typ string) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range c.Query(t.Context(), event.Filter{Types: []string{typ}}) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// Only its own package knows OpenCode: no string of the intake, of what it shares with
// the sources, or of rpc names it.
func TestOnlyItsPackageKnowsOpenCode(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "source", "../rpc"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && strings.Contains(strings.ToLower(l.Value), "opencode") {
					t.Errorf("%s: %s", fset.Position(l.Pos()), l.Value)
				}
				return true
			})
		}
	}
}
