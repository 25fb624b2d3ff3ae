package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/projection"
)

// okay asks and decodes the result.
func (p *rpcProcess) okay(method string, params, into any) {
	p.t.Helper()
	m := p.ask(method, params)
	require.Nil(p.t, m.Error, "%s: %+v", method, m.Error)
	if into != nil {
		require.NoError(p.t, json.Unmarshal(m.Result, into))
	}
}

// refused asks, and gives the name and the data of the error.
func (p *rpcProcess) refused(method string, params any) (string, map[string]any) {
	p.t.Helper()
	m := p.ask(method, params)
	require.NotNil(p.t, m.Error, "%s: %s", method, m.Result)
	require.NotEmpty(p.t, m.Error.Message)
	name, _ := m.Error.Data["error"].(string)
	return name, m.Error.Data
}

type object = map[string]any

func TestRPCCheckpoints(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	q := object{"id": "cp_1", "stream_id": "ses", "requested_by": "agent/deployer", "decision_point": "Deploy?", "options": []object{{"id": "yes", "label": "Yes"}}, "action": object{"run": "deploy"}}
	var cp projection.Checkpoint
	p.okay("checkpoint.request", q, &cp)
	require.Equal(t, projection.Pending, cp.Status)
	seq := cp.Seq
	p.okay("checkpoint.request", q, &cp) // asked again
	require.Equal(t, seq, cp.Seq)
	q["action"] = object{"run": "destroy"}
	name, data := p.refused("checkpoint.request", q)
	require.Equal(t, "conflict", name)
	require.Equal(t, "guards.request.cp_1", data["guard"])

	p.send("waiter", "checkpoint.wait", object{"id": "cp_1"}) // holds up nothing
	var list struct{ Checkpoints []projection.Checkpoint }
	p.okay("checkpoint.list", object{}, &list)
	require.Len(t, list.Checkpoints, 1)
	name, _ = p.refused("checkpoint.approve", object{"id": "cp_1", "by": "agent/deployer", "option": "yes"})
	require.Equal(t, "own_checkpoint", name)
	name, _ = p.refused("checkpoint.approve", object{"id": "cp_1", "by": "alice", "option": "maybe"})
	require.Equal(t, "unknown_option", name)
	name, _ = p.refused("checkpoint.approve", object{"id": "cp_2", "by": "alice"})
	require.Equal(t, "unknown_checkpoint", name)
	name, _ = p.refused("checkpoint.wait", object{"id": "cp_1", "timeout_ms": 20})
	require.Equal(t, "timeout", name)

	approve := object{"id": "cp_1", "by": "alice", "option": "yes", "event_id": "decision-1"}
	p.send("approve", "checkpoint.approve", approve)
	for range 2 { // the answer of whoever waits, and the decider's, in any order
		m := p.read()
		require.Contains(t, []any{"waiter", "approve"}, m.ID)
		require.NoError(t, json.Unmarshal(m.Result, &cp), "%+v", m.Error)
		require.Equal(t, projection.Approved, cp.Status)
		require.Equal(t, "alice", cp.Decision.By)
	}
	decided := cp.Decision.Seq
	p.okay("checkpoint.approve", approve, &cp) // sent again under its id
	require.Equal(t, decided, cp.Decision.Seq)
	name, data = p.refused("checkpoint.reject", object{"id": "cp_1", "by": "bob", "reason": "late"})
	require.Equal(t, "decided", name)
	require.Equal(t, "alice", data["checkpoint"].(object)["decision"].(object)["by"])

	p.okay("checkpoint.request", object{"id": "cp_3", "stream_id": "ses", "requested_by": "agent/a", "decision_point": "?"}, nil)
	p.okay("checkpoint.cancel", object{"id": "cp_3", "by": "agent/a", "reason": "moot"}, &cp) // by the sweeper
	require.Equal(t, projection.Cancelled, cp.Status)
	p.okay("checkpoint.get", object{"id": "cp_3"}, &cp)
	require.Equal(t, projection.Cancelled, cp.Status)
}

func TestRPCIntents(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	spec := object{"id": "intent_1", "stream_id": "ses", "agent": "executor", "description": "Refactor", "prompt": "Do", "event_id": "spawn-1"}
	var i projection.Intent
	p.okay("intent.create", spec, &i)
	require.Equal(t, projection.Pending, i.Status)
	seq := i.Seq
	p.okay("intent.create", spec, &i) // sent again under its id
	require.Equal(t, seq, i.Seq)
	spec["event_id"] = "spawn-2"
	name, _ := p.refused("intent.create", spec)
	require.Equal(t, "conflict", name)

	var l struct{ Token uint64 }
	p.okay("intent.claim", object{"id": "intent_1", "by": "w1", "lease_ms": 60000}, &l)
	name, data := p.refused("intent.claim", object{"id": "intent_1", "by": "w2"})
	require.Equal(t, "held", name)
	require.Equal(t, "w1", data["intent"].(object)["holder"])
	old := l.Token
	p.okay("intent.claim", object{"id": "intent_1", "by": "w1", "token": old}, &l)
	require.Greater(t, l.Token, old)
	name, _ = p.refused("intent.complete", object{"id": "intent_1", "by": "w1", "token": old, "result": "stale"})
	require.Equal(t, "conflict", name)
	p.okay("intent.release", object{"id": "intent_1", "by": "w1", "token": l.Token}, &i)
	end := object{"id": "intent_1", "result": "done", "event_id": "end-1"}
	p.okay("intent.complete", end, &i)
	require.Equal(t, projection.Completed, i.Status)
	p.okay("intent.complete", end, &i)
	name, data = p.refused("intent.fail", object{"id": "intent_1", "error": "no"})
	require.Equal(t, "ended", name)
	require.Equal(t, "completed", data["intent"].(object)["status"])

	for _, method := range []string{"intent.complete", "intent.fail", "intent.abort"} { // under a lease
		id := "leased_" + method
		p.okay("intent.create", object{"id": id, "stream_id": "ses"}, nil)
		p.okay("intent.claim", object{"id": id, "by": "w1", "lease_ms": 60000}, &l)
		end := object{"id": id, "by": "w1", "token": l.Token, "event_id": "end_" + id}
		var first, again projection.Intent
		p.okay(method, end, &first)
		p.okay(method, end, &again) // sent again under its id
		require.Equal(t, first, again)
	}

	p.okay("intent.create", object{"id": "intent_2", "stream_id": "ses"}, nil)
	p.okay("intent.fail", object{"id": "intent_2", "error": "broken"}, nil)
	p.okay("intent.create", object{"id": "intent_3", "stream_id": "ses"}, nil)
	var list struct{ Intents []projection.Intent }
	p.okay("intent.list", object{}, &list)
	require.Len(t, list.Intents, 1)
	var ended struct{ Intents []string }
	p.okay("session.abort", object{"id": "ses", "by": "alice", "reason": "stop"}, &ended)
	require.Equal(t, []string{"intent_3"}, ended.Intents)
	p.okay("intent.get", object{"id": "intent_3"}, &i)
	require.Equal(t, projection.Aborted, i.Status)
	var survived struct {
		ActiveIntents []any `json:"active_intents"`
	}
	p.okay("resume", object{}, &survived)
	require.Empty(t, survived.ActiveIntents)
}

// What is wrong is refused with a name, and stores nothing; the next request is served.
func TestRPCBadInput(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	position := func() (n uint64) {
		var about struct{ Position uint64 }
		p.okay("initialize", object{}, &about)
		return about.Position
	}
	before := position()
	good := `{"type":"task.created","stream_id":"s","actor":"a"}`
	for _, c := range []struct{ line, name string }{
		{`not json`, "not_json"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":` + good, "not_json"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task.x","stream_id":"s","actor":"a","payload":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}}}`, "invalid"},
		{`[{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":` + good + `}}]`, "batch"},
		{`[]`, "batch"},
		{`5`, "invalid_request"},
		{`{"id":1,"method":"append","params":{"event":` + good + `}}`, "invalid_request"},
		{`{"jsonrpc":"2.0","id":{},"method":"append","params":{"event":` + good + `}}`, "invalid_request"},
		{`{"jsonrpc":"2.0","id":1,"method":"appned","params":{"event":` + good + `}}`, "unknown_method"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":[` + good + `]}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append"}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":` + good + `,"evnt":1}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task","stream_id":"s","actor":"a"}}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task.x","stream_id":"s","actor":"a","seq":4}}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":` + good + `,"timeout_ms":-1}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"appendBatch","params":{"events":[` + good + `,{"type":"x"}]}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"appendBatch","params":{"events":[]}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"query","params":{"limit":-1}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"query","params":{"limit":"ten"}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"types":["task created"]}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"query","params":{"since":1796046000}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"until":1796046000}}`, "invalid"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task.x","stream_id":"s","actor":"a","payload":"` + strings.Repeat("x", 8<<20) + `"}}}`, "too_large"},
		{`{"jsonrpc":"2.0","id":1,"method":"append","params":{"event":{"type":"task.x","stream_id":"s","actor":"a","payload":"` + strings.Repeat("x", 10<<20) + `"}}}`, "line_too_long"},
	} {
		_, err := p.in.Write([]byte(c.line + "\n"))
		require.NoError(t, err)
		m := p.read()
		require.NotNil(t, m.Error, "%.200s", c.line)
		require.Equal(t, c.name, m.Error.Data["error"], "%.200s: %s", c.line, m.Error.Message)
		require.NotZero(t, m.Error.Code)
	}
	require.Equal(t, before, position())
	name, data := p.refused("append", object{"event": object{"type": "task", "stream_id": "s", "actor": "a"}})
	require.Equal(t, "invalid", name)
	require.Equal(t, "type", data["field"])
	require.Contains(t, data["rule"], "2 to 8 tokens")
	name, _ = p.refused("append", object{"event": object{"id": "e1", "type": "task.x", "stream_id": "s", "actor": "a"}, "sent_at": 1, "extra": 1})
	require.Equal(t, "invalid", name)
	var first, second struct{ Seq uint64 }
	e := object{"event": object{"id": "e1", "type": "task.x", "stream_id": "s", "actor": "a", "timestamp": 5}}
	p.okay("append", e, &first)
	p.okay("append", e, &second)
	require.Equal(t, first.Seq, second.Seq)
	e["sent_at"] = 1 // long ago: it is looked for, not left to the engine's memory
	p.okay("append", e, &second)
	require.Equal(t, first.Seq, second.Seq)
	name, _ = p.refused("append", object{"event": object{"id": "e1", "type": "task.y", "stream_id": "s", "actor": "a"}})
	require.Equal(t, "duplicate_id", name)
}

// A long answer comes in pages.
func TestRPCPages(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	events := make([]object, 900)
	for i := range events {
		events[i] = object{"type": "task.created", "stream_id": "s", "actor": "a", "payload": i}
	}
	for range 3 {
		var done struct{ Events []any }
		p.okay("appendBatch", object{"events": events}, &done)
		require.Len(t, done.Events, 900)
	}
	var page struct {
		Events   []struct{ Payload int }
		Position uint64
		More     bool
	}
	got, after := 0, uint64(0)
	for page.More = true; page.More; after = page.Position {
		page.Events = nil
		p.okay("query", object{"stream_id": "s", "after": after}, &page)
		require.LessOrEqual(t, len(page.Events), 1000)
		for _, e := range page.Events {
			require.Equal(t, got%900, e.Payload)
			got++
		}
	}
	require.Equal(t, 2700, got)
	p.okay("query", object{"stream_id": "s", "limit": 900}, &page)
	require.True(t, page.More)
}

// A number of milliseconds that wraps round as a time means "never", and must not become
// "at once": it is refused, by its name and value.
func TestRPCTimesThatWrapRound(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	q := object{"id": "cp_1", "stream_id": "ses", "requested_by": "agent", "decision_point": "Deploy?"}
	p.okay("checkpoint.request", q, nil)
	p.okay("intent.create", object{"id": "i_1", "stream_id": "ses"}, nil)
	for _, ms := range []int64{-1, 9_223_372_036_855, 18_446_744_073_710, 1 << 62} {
		for _, c := range []struct {
			method, field string
			params        object
		}{
			{"checkpoint.request", "expires_ms", object{"id": "cp_2", "stream_id": "ses", "requested_by": "agent", "decision_point": "?"}},
			{"checkpoint.wait", "timeout_ms", object{"id": "cp_1"}},
			{"append", "timeout_ms", object{"event": object{"type": "a.b", "actor": "a", "payload": 1}}},
			{"appendBatch", "timeout_ms", object{"events": []object{{"type": "a.b", "actor": "a", "payload": 1}}}},
			{"intent.create", "timeout_ms", object{"id": "i_2", "stream_id": "ses"}},
			{"intent.claim", "lease_ms", object{"id": "i_1", "by": "w"}},
		} {
			c.params[c.field] = ms
			name, data := p.refused(c.method, c.params)
			require.Equal(t, "invalid", name, "%s %d", c.method, ms)
			require.Equal(t, c.field, data["field"], "%s %d", c.method, ms)
			require.Equal(t, fmt.Sprint(ms), data["value"], "%s %d", c.method, ms)
		}
	}
	q["id"], q["expires_ms"] = "cp_3", int64(9_223_372_036_854)
	var cp projection.Checkpoint
	p.okay("checkpoint.request", q, &cp)
	require.Equal(t, projection.Pending, cp.Status)
	require.False(t, cp.PastDue(time.Now()))
}
