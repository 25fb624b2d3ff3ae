package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/source"
	"durablestream/internal/roles"
	"durablestream/projection"
)

var busClock atomic.Int64

// bus sends an event with an id as OpenCode makes them: they ascend.
func (p *pluginProcess) bus(typ, properties string, args ...any) int {
	last := busClock.Load()
	id := max(last+1, time.Now().UnixMilli()<<12)
	for !busClock.CompareAndSwap(last, id) {
		last = busClock.Load()
		id = max(last+1, time.Now().UnixMilli()<<12)
	}
	return p.event(fmt.Appendf(nil, `{"id":"evt_%012x001abcdefghijkl","type":%q,"properties":%s}`, id&(1<<48-1), typ, fmt.Sprintf(properties, args...)))
}

// ask has a session ask for a permission.
func (p *pluginProcess) ask(t *testing.T, session, id, command string) {
	t.Helper()
	p.bus("session.status", `{"sessionID":%q,"status":{"type":"busy"}}`, session)
	n := p.bus("permission.asked", `{"id":%q,"sessionID":%q,"permission":"bash","patterns":[%q],"metadata":{"command":%q},"always":["touch *"],"tool":{"messageID":"msg_%s","callID":"call_%s"}}`, id, session, command, command, id, id)
	p.until(t, "the question is in the log", func() bool { return p.open[n] == nil })
}

// answers are the answers that were brought.
func (p *pluginProcess) answers() []rpcMessage {
	var out []rpcMessage
	for _, m := range p.notes {
		if m.Method == "opencode.answer" {
			out = append(out, m)
		}
	}
	return out
}

// answered waits for the nth answer.
func (p *pluginProcess) answered(t *testing.T, n int) rpcMessage {
	t.Helper()
	p.until(t, fmt.Sprintf("answer %d", n), func() bool { return len(p.answers()) >= n })
	require.Len(t, p.answers(), n)
	return p.answers()[n-1]
}

// followed waits until the process has acted upon all that is in the log: it answers in
// the order of the log.
func (p *pluginProcess) followed(t *testing.T, d *durablestream.DurableStream) {
	t.Helper()
	id := fmt.Sprintf("per_sync_%s_%d", p.instance, p.next)
	p.ask(t, "ses_sync", id, id)
	approve(t, d, id, "once")
	last := func() bool { return len(p.notes) > 0 && p.notes[len(p.notes)-1].Params.RequestID == id }
	p.until(t, "the answer to "+id, last)
	p.notes = p.notes[:len(p.notes)-1]
	p.bus("permission.replied", `{"sessionID":"ses_sync","requestID":%q,"reply":"once"}`, id)
}

// settled waits until what OpenCode said before is stored.
func (p *pluginProcess) settled(t *testing.T) {
	t.Helper()
	n := p.bus("todo.updated", `{"sessionID":"ses_other","todos":[%d]}`, p.next)
	p.until(t, "an answer", func() bool { return p.open[n] == nil })
}

func human(t *testing.T, dir string) *durablestream.DurableStream {
	t.Helper()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// withKeys hosts a log with keys, and gives the file of an agent's and an operator.
func withKeys(t *testing.T, dir string) (agent string, operator *durablestream.DurableStream) {
	t.Helper()
	keys := t.TempDir()
	list, seed := filepath.Join(keys, "keys.json"), func(name string) string { return filepath.Join(keys, name) }
	a, err := roles.Make("a", roles.Agent, seed("a"))
	require.NoError(t, err)
	o, err := roles.Make("o", roles.Operator, seed("o"))
	require.NoError(t, err)
	require.NoError(t, roles.Write(list, []roles.Key{a, o}))
	host, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, Serve: durablestream.Serve{KeyFile: list}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	operator, err = durablestream.Open(t.Context(), durablestream.Config{Dir: dir, NKey: seed("o")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, operator.Close()) })
	return seed("a"), operator
}

func checkpoint(t *testing.T, d *durablestream.DurableStream, id string) projection.Checkpoint {
	t.Helper()
	cp, err := d.Checkpoints().Get(t.Context(), id)
	require.NoError(t, err)
	return cp
}

func approve(t *testing.T, d *durablestream.DurableStream, id, option string) {
	t.Helper()
	_, err := d.Checkpoints().Approve(t.Context(), id, client.Approval{By: "ann", Option: option, Comment: "fine"})
	require.NoError(t, err)
}

// A decision made elsewhere comes back to OpenCode, once; an answer given in OpenCode
// decides the checkpoint, and does not.
func TestOpencodeAnswers(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	d := human(t, dir)
	p := startPlugin(t, dir, "here:1")

	p.ask(t, "ses_1", "per_1", "touch a")
	approve(t, d, "per_1", "once")
	m := p.answered(t, 1)
	require.Equal(t, "permission per_1 ses_1 once fine ann", m.Params.Kind+" "+m.Params.RequestID+" "+m.Params.SessionID+" "+m.Params.Reply+" "+m.Params.Message+" "+m.Params.By)
	p.bus("permission.replied", `{"sessionID":"ses_1","requestID":"per_1","reply":"once"}`)

	p.ask(t, "ses_1", "per_2", "touch b")
	p.bus("permission.replied", `{"sessionID":"ses_1","requestID":"per_2","reply":"reject"}`)
	p.settled(t)
	cp := checkpoint(t, d, "per_2")
	require.Equal(t, projection.Rejected, cp.Status)
	require.Equal(t, "user", cp.Decision.By)

	p.ask(t, "ses_1", "per_3", "touch c")
	_, err := d.Checkpoints().Reject(t.Context(), "per_3", client.Rejection{By: "ann", Reason: "not today"})
	require.NoError(t, err)
	m = p.answered(t, 2)
	require.Equal(t, "per_3 reject not today", m.Params.RequestID+" "+m.Params.Reply+" "+m.Params.Message)

	n := p.bus("question.asked", `{"id":"que_1","sessionID":"ses_1","questions":[{"question":"Deploy?","header":"D","options":[{"label":"Yes","description":"go"},{"label":"No","description":"stop"}]}]}`)
	p.until(t, "asked", func() bool { return p.open[n] == nil })
	approve(t, d, "que_1", "No")
	m = p.answered(t, 3)
	require.Equal(t, "question", m.Params.Kind)
	require.Equal(t, [][]string{{"No"}}, m.Params.Answers)

	p.ask(t, "ses_1", "per_4", "touch d")
	_, err = d.Checkpoints().Cancel(t.Context(), "per_4", client.Cancellation{By: "ann", Reason: "never mind"})
	require.NoError(t, err)
	m = p.answered(t, 4)
	require.Equal(t, "reject", m.Params.Reply)
	require.Contains(t, m.Params.Message, "never mind")

	// The process is killed before OpenCode has answered: the next one says it again,
	// but not what OpenCode has answered.
	p.kill(t)
	p.ask0(t)
	m = p.answered(t, 4+3) // per_3, que_1 and per_4
	require.Equal(t, "per_4", m.Params.RequestID)
	p.end(t)
}

// ask0 starts the next process with an event.
func (p *pluginProcess) ask0(t *testing.T) {
	t.Helper()
	p.start(t)
	p.settled(t)
}

// An OpenCode is killed with questions open. The answers that are given afterwards
// are given to the same questions asked again by the next one: each once.
func TestOpencodeAnswerAfterACrash(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	d := human(t, dir)
	p := startPlugin(t, dir, "here:1")
	p.ask(t, "ses_1", "per_1", "touch a")
	p.ask(t, "ses_2", "per_2", "touch a")
	p.ask(t, "ses_3", "per_3", "touch c")
	p.ask(t, "ses_4", "per_4", "touch d")
	p.kill(t)
	approve(t, d, "per_1", "always") // while no OpenCode runs

	q := startPlugin(t, dir, "here:2")
	q.ask(t, "ses_1", "per_11", "touch b")
	q.ask(t, "ses_2", "per_12", "touch b")
	q.followed(t, d)
	require.Empty(t, q.answers(), "another command, another session")
	q.ask(t, "ses_1", "per_13", "touch a")
	m := q.answered(t, 1)
	require.Equal(t, "per_13 always ann", m.Params.RequestID+" "+m.Params.Reply+" "+m.Params.By)
	cp := checkpoint(t, d, "per_13")
	require.Equal(t, projection.Approved, cp.Status)
	require.Equal(t, "ann", cp.Decision.By)
	require.Contains(t, cp.Decision.Comment, "per_1")
	q.bus("permission.replied", `{"sessionID":"ses_1","requestID":"per_13","reply":"always"}`)

	q.ask(t, "ses_1", "per_14", "touch a") // an approval is used once
	q.followed(t, d)
	require.Equal(t, projection.Pending, checkpoint(t, d, "per_14").Status)

	// The question before the crash is answered while its like waits.
	q.ask(t, "ses_3", "per_15", "touch c")
	_, err := d.Checkpoints().Reject(t.Context(), "per_3", client.Rejection{By: "ann", Reason: "no"})
	require.NoError(t, err)
	m = q.answered(t, 2)
	require.Equal(t, "per_15 reject no", m.Params.RequestID+" "+m.Params.Reply+" "+m.Params.Message)
	require.Equal(t, projection.Rejected, checkpoint(t, d, "per_15").Status)

	// The like is answered: the question before the crash is withdrawn.
	q.ask(t, "ses_4", "per_16", "touch d")
	approve(t, d, "per_16", "once")
	m = q.answered(t, 3)
	require.Equal(t, "per_16", m.Params.RequestID)
	require.Eventually(t, func() bool { return checkpoint(t, d, "per_4").Status == projection.Cancelled }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, checkpoint(t, d, "per_4").Decision.Reason, "per_16")
	require.Equal(t, projection.Pending, checkpoint(t, d, "per_2").Status)
	q.end(t)

	used := map[string]string{}
	for r, err := range d.Query(t.Context(), event.Filter{Types: []string{source.DecisionUsed("opencode")}}) {
		require.NoError(t, err)
		var u source.Used
		require.NoError(t, json.Unmarshal(r.Payload, &u))
		require.Empty(t, used[u.Checkpoint], "given twice")
		if !strings.HasPrefix(u.GivenTo, "per_sync") {
			used[u.Checkpoint] = u.GivenTo
		}
	}
	require.Equal(t, map[string]string{"per_1": "per_13", "per_13": "per_13", "per_3": "per_15", "per_15": "per_15", "per_16": "per_16"}, used)
}

// An answer that was given to an OpenCode which was then killed is not given again: it
// may have been acted upon.
func TestOpencodeAnswerIsNotGivenTwice(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	d := human(t, dir)
	p := startPlugin(t, dir, "here:1")
	p.ask(t, "ses_1", "per_1", "touch a")
	approve(t, d, "per_1", "once")
	p.answered(t, 1)
	p.kill(t) // and OpenCode, before or after it did it

	q := startPlugin(t, dir, "here:2")
	q.ask(t, "ses_1", "per_2", "touch a")
	q.followed(t, d)
	require.Empty(t, q.answers())
	require.Equal(t, projection.Pending, checkpoint(t, d, "per_2").Status)

	// Nor is one of an OpenCode that goes on.
	_, err := d.Checkpoints().Reject(t.Context(), "per_2", client.Rejection{By: "ann", Reason: ""})
	require.NoError(t, err)
	q.answered(t, 1)
	r := startPlugin(t, dir, "here:3")
	r.ask(t, "ses_9", "per_3", "touch z")
	q.ask(t, "ses_9", "per_4", "touch z")
	approve(t, d, "per_3", "once")
	require.Equal(t, "per_3", r.answered(t, 1).Params.RequestID)
	q.followed(t, d)
	require.Len(t, q.answers(), 1)
	require.Equal(t, projection.Pending, checkpoint(t, d, "per_4").Status)
	approve(t, d, "per_4", "once")
	require.Equal(t, "per_4", q.answered(t, 2).Params.RequestID)
	q.end(t)
	r.end(t)
}

// With an agent's key nothing is decided: what the human says in OpenCode counts there
// alone, and they are told. A decision that an operator made before the crash is
// carried over, and the question withdrawn by the sweeper.
func TestOpencodeWithAnAgentsKey(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	agent, operator := withKeys(t, dir)
	p := startPlugin(t, dir, "here:1", "--nkey", agent)
	p.ask(t, "ses_1", "per_1", "touch a")
	p.ask(t, "ses_1", "per_2", "touch b")
	p.bus("permission.replied", `{"sessionID":"ses_1","requestID":"per_1","reply":"once"}`)
	p.until(t, "a notice", func() bool { return len(p.notes) > 0 })
	require.Equal(t, "opencode.notice", p.notes[0].Method)
	require.Contains(t, p.notes[0].Params.Text, "role agent")
	require.Equal(t, "per_1", p.notes[0].Params.RequestID)
	p.settled(t)
	require.Equal(t, projection.Pending, checkpoint(t, operator, "per_1").Status)
	p.kill(t)

	approve(t, operator, "per_2", "once")
	q := startPlugin(t, dir, "here:2", "--nkey", agent)
	q.ask(t, "ses_1", "per_3", "touch b")
	m := q.answered(t, 1)
	require.Equal(t, "per_3 once ann", m.Params.RequestID+" "+m.Params.Reply+" "+m.Params.By)
	require.Eventually(t, func() bool { return checkpoint(t, operator, "per_3").Status == projection.Cancelled }, 20*time.Second, 20*time.Millisecond)
	q.ask(t, "ses_1", "per_4", "touch b")
	approve(t, operator, "per_4", "once")
	require.Equal(t, "per_4", q.answered(t, 2).Params.RequestID, "and not by what was used")

	q.ask(t, "ses_2", "per_5", "touch c") // aborted: the sweeper cancels it
	q.bus("session.error", `{"sessionID":"ses_2","error":{"name":"MessageAbortedError","data":{"message":"Aborted"}}}`)
	require.Eventually(t, func() bool { return checkpoint(t, operator, "per_5").Status == projection.Cancelled }, 20*time.Second, 20*time.Millisecond)
	q.end(t)
	require.Len(t, q.answers(), 2)
}

// The process is killed after it wrote down to which question a decision is given, and
// before it told OpenCode: the next one of this run does.
func TestOpencodeAnswerGoesOn(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	d := human(t, dir)
	p := startPlugin(t, dir, "here:1")
	p.ask(t, "ses_1", "per_1", "touch a")
	p.ask(t, "ses_1", "per_2", "touch b")
	p.kill(t)
	q := startPlugin(t, dir, "here:2")
	q.ask(t, "ses_1", "per_3", "touch a")
	q.ask(t, "ses_1", "per_4", "touch b")
	q.kill(t)
	for from, to := range map[string]string{"per_1": "per_3", "per_2": "per_elsewhere"} {
		approve(t, d, from, "once")
		payload, err := json.Marshal(source.Used{Checkpoint: from, GivenTo: to, Status: "approved", DecidedBy: "ann"})
		require.NoError(t, err)
		_, _, err = d.AppendGuarded(t.Context(), client.Guard{Name: "opencode.use." + from}, event.Event{
			ID: from + ".used." + to, Type: source.DecisionUsed("opencode"), StreamID: "ses_1", Actor: "opencode", Payload: payload,
		})
		require.NoError(t, err)
	}
	q.ask0(t)
	require.Equal(t, "per_3", q.answered(t, 1).Params.RequestID)
	require.Equal(t, projection.Approved, checkpoint(t, d, "per_3").Status)
	approve(t, d, "per_4", "always")
	m := q.answered(t, 2)
	require.Equal(t, "per_4 always", m.Params.RequestID+" "+m.Params.Reply, "the approval of per_2 was given to another one")
	q.end(t)
}
