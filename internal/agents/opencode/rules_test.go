package opencode_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"
	"durablestream/internal/longtest"

	"github.com/stretchr/testify/require"
)

// bus feeds a translator with events by hand, a clock beside it.
type bus struct {
	t   *testing.T
	tr  *opencode.Translator
	now time.Time
	n   int
}

func newBus(t *testing.T, cfg opencode.Config) *bus {
	return &bus{t: t, tr: opencode.New(cfg), now: time.UnixMilli(1795355693000)}
}

func (b *bus) send(typ, properties string) []source.Item {
	b.n++
	items := b.tr.Take(opencode.BusEvent{ID: fmt.Sprintf("evt_%03d", b.n), Type: typ, Properties: json.RawMessage(properties)}, b.now)
	requireValid(b.t, items)
	return items
}

func (b *bus) tool(session, part, call, tool, state string) []source.Item {
	return b.send("message.part.updated", `{"sessionID":"`+session+`","part":{"id":"`+part+`","messageID":"m","sessionID":"`+session+`","type":"tool","tool":"`+tool+`","callID":"`+call+`","state":`+state+`}}`)
}

func (b *bus) delta(text string) []source.Item {
	return b.send("message.part.delta", `{"sessionID":"s","messageID":"m","partID":"p","field":"text","delta":"`+text+`"}`)
}

func (b *bus) part(kind, text, times string) []source.Item {
	return b.send("message.part.updated", `{"sessionID":"s","part":{"id":"p","messageID":"m","sessionID":"s","type":"`+kind+`","text":"`+text+`","time":{"start":1`+times+`}}}`)
}

func types(items []source.Item) (out []string) {
	for _, i := range items {
		out = append(out, i.Event.Type)
	}
	return out
}

func textOf(t *testing.T, i source.Item) string {
	var p event.Text
	require.NoError(t, json.Unmarshal(i.Event.Payload, &p))
	return p.Text
}

func TestToolErrorIsAFinish(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	require.Empty(t, b.tool("s", "p", "c", "write", `{"status":"pending","input":{}}`))
	start := b.tool("s", "p", "c", "write", `{"status":"running","input":{"a":1}}`)
	require.Equal(t, []string{event.ExecutionToolStart}, types(start))
	end := b.tool("s", "p", "c", "write", `{"status":"error","input":{"a":1},"error":"no"}`)
	require.Equal(t, []string{event.ExecutionToolFinish}, types(end))
	var p event.Tool
	require.NoError(t, json.Unmarshal(end[0].Event.Payload, &p))
	require.Equal(t, "no", p.State.Error)
	require.Equal(t, start[0].Event.ID, end[0].Event.CausationID)
}

func TestOneStartACall(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	require.Len(t, b.tool("s", "p", "c", "bash", `{"status":"running","input":{}}`), 1)
	require.Empty(t, b.tool("s", "p", "c", "bash", `{"status":"running","input":{},"metadata":{"output":"1"}}`))
	require.Empty(t, b.tool("s", "p", "c", "bash", `{"status":"running","input":{},"metadata":{"output":"12"}}`))
	b.now = b.now.Add(time.Second)
	progress := b.tr.Tick(b.now)
	require.Equal(t, []string{opencode.ToolProgress}, types(progress))
	require.Contains(t, string(progress[0].Event.Payload), `"12"`)
	require.Len(t, b.tool("s", "p", "c", "bash", `{"status":"completed","input":{},"output":"12"}`), 1)

	// Out of order: what comes after the end begins nothing, and a second end (OpenCode
	// drops old outputs) is kept as what it is.
	require.Empty(t, b.tool("s", "p", "c", "bash", `{"status":"running","input":{},"metadata":{"output":"1"}}`))
	require.Equal(t, []string{"opencode.message.part.updated"}, types(b.tool("s", "p", "c", "bash", `{"status":"completed","input":{},"output":""}`)))
	require.Equal(t, []string{"opencode.message.part.updated"}, types(b.tool("s", "q", "c2", "bash", `{"status":"completed","input":{},"output":"","time":{"start":1,"end":2,"compacted":3}}`)))
	require.Empty(t, b.tr.Flush(b.now))
}

func TestDeltasAreJoinedAtMostOncePerSecond(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	require.Empty(t, b.part("reasoning", "", ""))
	var all []source.Item
	want := ""
	for i := range 3500 { // 3.5 s, one a millisecond
		piece := fmt.Sprint(i, " ")
		want += piece
		all = append(all, b.delta(piece)...)
		all = append(all, b.tr.Tick(b.now)...)
		b.now = b.now.Add(time.Millisecond)
	}
	require.Len(t, all, 3)
	for n, i := range all {
		require.Equal(t, event.ExecutionReasoningSnapshot, i.Event.Type)
		require.True(t, partial(i))
		require.True(t, strings.HasPrefix(want, textOf(t, i)))
		require.Contains(t, textOf(t, i), fmt.Sprint(" ", (n+1)*1000-1, " "), "at most a second is missing")
	}
	_, due := b.tr.Due()
	require.True(t, due)
	end := b.part("reasoning", want, `,"end":2`)
	require.Len(t, end, 1)
	require.False(t, partial(end[0]))
	require.Equal(t, want, textOf(t, end[0]))
	_, due = b.tr.Due()
	require.False(t, due)
	require.Empty(t, b.delta("late"))
	require.Equal(t, 1, b.tr.Stats().Late)
	require.Empty(t, b.tr.Flush(b.now))
}

func TestFlushStoresWhatStreams(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	b.part("text", "", "")
	b.delta("half a ")
	out := b.tr.Flush(b.now)
	require.Len(t, out, 1)
	require.Equal(t, "half a ", textOf(t, out[0]))
	require.True(t, partial(out[0]))
	require.Empty(t, b.tr.Flush(b.now))
}

func TestTextWithoutItsBeginningSaysSo(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	b.delta("the end")
	require.Contains(t, string(b.tr.Flush(b.now)[0].Event.Payload), `"from_middle":true`)
	b.part("text", "and this is the end", "") // who restarts may tell the text so far
	b.delta(".")
	out := b.tr.Flush(b.now)
	require.Equal(t, "and this is the end.", textOf(t, out[0]))
	require.NotContains(t, string(out[0].Event.Payload), "from_middle")
}

func TestSecondIdleOfAnAbortDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	const s = `{"sessionID":"s"}`
	b.send("session.status", `{"sessionID":"s","status":{"type":"busy"}}`)
	b.send("message.updated", `{"sessionID":"s","info":{"id":"m","role":"assistant","time":{"created":1}}}`)
	b.part("text", "", "")
	b.delta("cut off")
	b.send("session.error", `{"sessionID":"s","error":{"name":"MessageAbortedError"}}`)
	require.Equal(t, []string{event.LifecycleSessionIdle}, types(b.send("session.idle", s)))
	require.Equal(t, []string{event.ExecutionTextSnapshot, event.ExecutionMessageUpdated},
		types(b.send("message.updated", `{"sessionID":"s","info":{"id":"m","role":"assistant","time":{"created":1,"completed":2}}}`)))
	require.Empty(t, b.send("session.idle", s))
	b.send("session.status", `{"sessionID":"s","status":{"type":"busy"}}`)
	require.Len(t, b.send("session.idle", s), 1, "the next turn's counts")
}

func TestPermissionIsBoundToItsAction(t *testing.T) {
	t.Parallel()
	const asked = `{"id":"per_1","sessionID":"s","permission":"bash","patterns":["rm x"],"metadata":{"command":"rm x"},"always":["rm *"],"tool":{"messageID":"m","callID":"c"}}`
	b := newBus(t, opencode.Config{})
	ask := b.send("permission.asked", asked)
	require.Len(t, ask, 1)
	require.Equal(t, source.Ask, ask[0].Kind)
	require.Equal(t, "per_1", ask[0].Checkpoint)
	var p event.Checkpoint
	require.NoError(t, json.Unmarshal(ask[0].Event.Payload, &p))
	require.JSONEq(t, `{"opencode":"permission",`+asked[1:], string(p.Action))
	require.Equal(t, "once", p.Options[0].ID)
	require.Equal(t, "always", p.Options[1].ID)
	require.Equal(t, "opencode.permission.asked", ask[0].Else.Type)

	// Another process, which knows more, asks for the very same action.
	other := newBus(t, opencode.Config{})
	other.tool("s", "p", "c", "bash", `{"status":"running","input":{"command":"rm x"}}`)
	var q event.Checkpoint
	require.NoError(t, json.Unmarshal(other.send("permission.asked", asked)[0].Event.Payload, &q))
	require.Equal(t, string(p.Action), string(q.Action))

	for reply, typ := range map[string]string{"once": event.CheckpointApproved, "always": event.CheckpointApproved, "reject": event.CheckpointRejected} {
		b := newBus(t, opencode.Config{})
		b.send("permission.asked", asked)
		d := b.send("permission.replied", `{"sessionID":"s","requestID":"per_1","reply":"`+reply+`"}`)
		require.Equal(t, []string{typ}, types(d), reply)
		require.Equal(t, source.Decide, d[0].Kind)
		require.Equal(t, "opencode.permission.replied", d[0].Else.Type)
	}
	// A word that is not known decides nothing.
	d := b.send("permission.replied", `{"sessionID":"s","requestID":"per_1","reply":"sure"}`)
	require.Equal(t, []string{"opencode.permission.replied"}, types(d))
	require.Equal(t, source.Plain, d[0].Kind)
}

func TestAbortedAskIsWithdrawn(t *testing.T) {
	t.Parallel()
	const asked = `{"id":"per_1","sessionID":"s","permission":"bash","tool":{"messageID":"m","callID":"c"}}`
	for name, end := range map[string]func(*bus) []source.Item{
		"abort": func(b *bus) []source.Item {
			return b.send("session.error", `{"sessionID":"s","error":{"name":"MessageAbortedError"}}`)
		},
		"idle":   func(b *bus) []source.Item { return b.send("session.idle", `{"sessionID":"s"}`) },
		"delete": func(b *bus) []source.Item { return b.send("session.deleted", `{"info":{"id":"s"}}`) },
		"call ended": func(b *bus) []source.Item {
			return b.tool("s", "p", "c", "bash", `{"status":"error","input":{},"error":"aborted"}`)
		},
	} {
		b := newBus(t, opencode.Config{})
		b.send("permission.asked", asked)
		require.Empty(t, func() (w []source.Item) {
			for _, i := range b.send("session.error", `{"sessionID":"other","error":{"name":"MessageAbortedError"}}`) {
				if i.Kind == source.Withdraw {
					w = append(w, i)
				}
			}
			return w
		}(), "another session's abort")
		items := end(b)
		require.Equal(t, 1, count(items, func(i source.Item) bool { return i.Kind == source.Withdraw && i.Checkpoint == "per_1" }), name)
		require.Zero(t, count(end(b), func(i source.Item) bool { return i.Kind == source.Withdraw }), name)
	}
}

func TestQuestionAndItsAnswer(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	const one = `{"question":"Deploy?","options":[{"label":"Yes"},{"label":"No"}]}`
	var p event.Checkpoint
	require.NoError(t, json.Unmarshal(b.send("question.asked", `{"id":"que_1","sessionID":"s","questions":[`+one+`]}`)[0].Event.Payload, &p))
	require.Equal(t, "Deploy?", p.DecisionPoint)
	require.Len(t, p.Options, 2)
	d := b.send("question.replied", `{"sessionID":"s","requestID":"que_1","answers":[["No"]]}`)
	var a event.Approved
	require.NoError(t, json.Unmarshal(d[0].Event.Payload, &a))
	require.Equal(t, "No", a.SelectedOption)
	require.JSONEq(t, `[["No"]]`, string(a.Answer))

	require.NoError(t, json.Unmarshal(b.send("question.asked", `{"id":"que_2","sessionID":"s","questions":[`+one+`,`+one+`]}`)[0].Event.Payload, &p))
	require.Empty(t, p.Options)
	require.Contains(t, string(p.Schema), `"minItems":2`)
	require.Equal(t, []string{event.CheckpointRejected}, types(b.send("question.rejected", `{"sessionID":"s","requestID":"que_2"}`)))
}

func TestFileEditGoesToTheSessionThatRunsTheTool(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	b.tool("s1", "p1", "c1", "write", `{"status":"running","input":{"filePath":"/w/a.txt","content":"see /w/b.txt"}}`)
	b.tool("s2", "p2", "c2", "edit", `{"status":"running","input":{"filePath":"b.txt"}}`)
	where := func(typ, file string) (string, string) {
		i := b.send(typ, `{"file":"`+file+`","event":"change"}`)
		require.Len(t, i, 1)
		return i[0].Event.StreamID, i[0].Event.Type
	}
	at, typ := where("file.edited", "/w/a.txt")
	require.Equal(t, []string{"s1", event.FilesChanged}, []string{at, typ})
	at, typ = where("file.watcher.updated", "/w/a.txt")
	require.Equal(t, []string{"s1", "opencode.file.watcher.updated"}, []string{at, typ}, "the same change once more")
	at, _ = where("file.edited", "/w/b.txt")
	require.Equal(t, "s2", at)
	at, typ = where("file.watcher.updated", "/w/by-hand.txt")
	require.Equal(t, []string{"opencode", event.FilesChanged}, []string{at, typ}, "a human may have written it")
	at, _ = where("file.edited", "/w/c.txt")
	require.Equal(t, "opencode", at, "either could have")
	b.tool("s1", "p1", "c1", "write", `{"status":"completed","input":{},"output":""}`)
	at, _ = where("file.edited", "/w/c.txt")
	require.Equal(t, "s2", at, "only one runs a tool")
}

func TestSubAgentIsAnIntent(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	const in = `"input":{"description":"d","prompt":"do","subagent_type":"general"},"metadata":{"sessionId":"child"}`
	b.send("session.created", `{"info":{"id":"child","parentID":"s"}}`)
	run := b.tool("s", "p", "c", "task", `{"status":"running",`+in+`}`)
	require.Equal(t, []string{event.ExecutionToolStart, event.AgentSpawned}, types(run))
	require.Equal(t, source.Spawn, run[1].Kind)
	require.Equal(t, "p", run[1].Intent)
	require.Equal(t, "s", b.send("session.idle", `{"sessionID":"child"}`)[0].Event.CorrelationID, "a family has one correlation")
	end := b.tool("s", "p", "c", "task", `{"status":"error","error":"bad",`+in+`}`)
	require.Equal(t, []string{event.ExecutionToolFinish, event.AgentFailed}, types(end))

	b.tool("s", "p2", "c2", "task", `{"status":"running",`+in+`}`)
	b.send("session.error", `{"sessionID":"child","error":{"name":"MessageAbortedError"}}`)
	b.send("session.idle", `{"sessionID":"child"}`)
	require.Equal(t, []string{event.ExecutionToolFinish, event.AgentAborted}, types(b.tool("s", "p2", "c2", "task", `{"status":"error",`+in+`}`)))
}

func TestUnknownIsKept(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	for typ, want := range map[string]string{
		"brand.new":                    "opencode.brand.new",
		"a":                            "opencode.a",
		"a b/ü":                        "opencode.a_b__",
		"..":                           "opencode._._._",
		"1.2.3.4.5.6.7.8.9":            "opencode.1.2.3.4.5.6.7_8_9",
		"session.idle":                 "opencode.session.idle", // of no session
		"message.part.delta":           "opencode.message.part.delta",
		strings.Repeat("x", 300) + ".": "opencode." + strings.Repeat("x", 171) + "_",
	} {
		got := b.send(typ, `{"new":[1,2]}`)
		require.Len(t, got, 1, typ)
		require.True(t, strings.HasPrefix(got[0].Event.Type, want), "%s: %s", typ, got[0].Event.Type)
		require.Equal(t, `{"new":[1,2]}`, string(got[0].Event.Payload))
	}
	got := b.tr.Take(opencode.Parse([]byte("not JSON \xff")), b.now)
	require.Equal(t, []string{"opencode.unreadable"}, types(got))
	require.Equal(t, `"not JSON �"`, string(got[0].Event.Payload))
	got = b.tr.Take(opencode.Parse([]byte(`{"type":"v2.event","data":{"a":1}}`)), b.now)
	require.Equal(t, `{"type":"v2.event","data":{"a":1}}`, string(got[0].Event.Payload), "another shape is kept whole")
}

func TestLargeIsCutWithSizeAndHash(t *testing.T) {
	t.Parallel()
	lines := capture(t, "session-events")
	tr := opencode.New(opencode.Config{Limit: 64 << 10})
	items := replay(tr, lines)
	requireValid(t, items)
	require.NotZero(t, tr.Stats().Cut)
	marked := 0
	for _, i := range items {
		require.LessOrEqual(t, len(i.Event.Payload), 64<<10)
		if strings.Contains(string(i.Event.Payload), "bytes in all, sha256 ") {
			marked++
			require.Contains(t, string(i.Event.Metadata), `"cut":`)
		}
	}
	require.Equal(t, tr.Stats().Cut, marked)

	// Many short strings, and many escapes.
	b := newBus(t, opencode.Config{Limit: 4096})
	for _, p := range []string{`{"a":[` + strings.Repeat(`"short",`, 10000) + `1]}`, `{"a":"` + strings.Repeat(`\u0001`, 10000) + `"}`, `{"` + strings.Repeat("k", 10000) + `":1}`} {
		got := b.send("x.y", p)
		require.LessOrEqual(t, len(got[0].Event.Payload), 4096)
		require.Contains(t, string(got[0].Event.Payload), "sha256")
	}
	// A text that streams past the limit.
	b.part("text", "", "")
	for range 100 {
		b.delta(strings.Repeat("x", 100))
	}
	require.Contains(t, string(b.tr.Flush(b.now)[0].Event.Payload), "…[cut: 10000 bytes in all, sha256 ")
}

func TestTimeIsOpenCodes(t *testing.T) {
	t.Parallel()
	for _, c := range capture(t, "crash-before-restart") {
		for _, i := range opencode.New(opencode.Config{}).Take(c.bus(), c.now().Add(time.Hour)) {
			require.InDelta(t, c.ReceivedAt, i.Event.Milli(), 200)
		}
	}
}

// The memory of sessions that are over does not grow.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	b := newBus(t, opencode.Config{})
	for i := range longtest.Pick(5000, 10000) { // 4,096 are kept; the rest is put out
		s := fmt.Sprint("ses_", i)
		b.send("session.created", `{"info":{"id":"`+s+`"}}`)
		b.send("session.idle", `{"sessionID":"`+s+`"}`)
	}
	require.LessOrEqual(t, b.tr.Sessions(), 4096)
	for i := range longtest.Pick(5000, 10000) { // texts that never end, in one session that never rests
		b.send("message.part.delta", fmt.Sprintf(`{"sessionID":"s","messageID":"m","partID":"p%d","field":"text","delta":"x"}`, i))
	}
	require.LessOrEqual(t, b.tr.Texts(), 4096)
}

// What OpenCode brings is stored however deep it is nested: what is too deep for the Log
// is replaced by what says so.
func TestDeepPropertiesAreCut(t *testing.T) {
	t.Parallel()
	v := json.RawMessage(`{"id":"x","s":"[[{\"","a":[1,` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,2],"z":{}}`)
	out, n := opencode.CutDeep(v, 5)
	require.Equal(t, 1, n)
	require.True(t, strings.HasPrefix(string(out), `{"id":"x","s":"[[{\"","a":[1,[[["…[cut: 9994 bytes in all, sha256 `), "%s", out)
	require.True(t, strings.HasSuffix(string(out), `]"]]],2],"z":{}}`), "%s", out)
	same, n := opencode.CutDeep(v, 5002)
	require.Zero(t, n)
	require.Equal(t, v, same)

	tr := opencode.New(opencode.Config{Instance: "i", Limit: 1 << 20})
	for _, typ := range []string{"some.thing", "permission.asked", "permission.replied", "message.part.updated"} {
		e := opencode.Parse([]byte(`{"id":"evt_` + typ + `","type":"` + typ + `","properties":{"id":"per_1","sessionID":"ses_1","requestID":"per_1","reply":"once","permission":"bash","patterns":[],"metadata":` +
			string(v) + `,"always":[],"part":{"id":"prt_1","sessionID":"ses_1","messageID":"m","type":"tool","callID":"c","tool":"bash","state":{"status":"running","input":` + string(v) + `}}}}`))
		items := tr.Take(e, time.UnixMilli(1))
		require.NotEmpty(t, items, typ)
		for _, i := range items {
			require.NoError(t, i.Event.Validate(), typ)
			if i.Else != nil {
				require.NoError(t, i.Else.Validate(), typ)
			}
		}
	}
}
