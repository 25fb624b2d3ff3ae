package opencode

import (
	"cmp"
	"encoding/json"
	"strings"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// ToolProgress is the type of a running call's state, where that changed after
// execution.tool_start: what a shell has written so far, for example.
const ToolProgress = "execution.tool_progress"

// call is one call of a tool.
type call struct {
	lag     lagState
	session *session
	partID  string
	callID  string
	message string
	tool    string
	started bool
	done    bool
	intent  string // of the sub-agent that it runs
	child   string // the sub-agent's session
	latest  json.RawMessage
	sum     [32]byte // of the latest part that was stored or is about to be
	paths   []string // strings of its input that may be paths
	scripts []string // and those that may mention some
}

func (c *call) behind() *lagState { return &c.lag }

func (c *call) startID() string { return derived(c.partID, "start") }

// toolState is what matters here of a call's state.
type toolState struct {
	Status   string          `json:"status"`
	Input    json.RawMessage `json:"input"`
	Output   string          `json:"output"`
	Error    string          `json:"error"`
	Metadata json.RawMessage `json:"metadata"`
	Time     struct {
		Start     float64 `json:"start"`
		End       float64 `json:"end"`
		Compacted float64 `json:"compacted"`
	} `json:"time"`
}

// toolUpdated stores one start a call, when it runs, and one finish. While the model
// still writes a call's input (pending) nothing has begun.
func (t *Translator) toolUpdated(s *session, p part) bool {
	var state toolState
	if !isObject(p.State) || !read(p.State, &state) {
		return false
	}
	c := s.calls[p.ID]
	known := c != nil
	if !known {
		c = &call{session: s, partID: p.ID}
	}
	c.callID, c.tool, c.message = cmp.Or(p.CallID, c.callID), cmp.Or(p.Tool, c.tool), cmp.Or(p.MessageID, c.message)
	switch state.Status {
	case "pending":
		s.calls[p.ID] = c
		return t.covered()
	case "running":
		s.calls[p.ID] = c
		return t.toolRunning(c, p, state)
	case "completed", "error":
		if c.done || state.Time.Compacted > 0 {
			return false // changed after its end: compaction drops old outputs
		}
		s.calls[p.ID] = c
		t.toolEnded(c, p, state)
		return true
	}
	return false
}

func (t *Translator) toolRunning(c *call, p part, state toolState) bool {
	h := sum(p.raw)
	switch {
	case c.done:
		return t.covered()
	case !c.started:
		c.started, c.sum, c.session.idle = true, h, false
		c.paths, c.scripts = mentions(state.Input)
		t.plain(draft{id: c.startID(), typ: event.ExecutionToolStart, session: c.session.id, actor: c.session.actor(c.message), payload: p.raw})
	case h == c.sum:
		t.covered()
	default:
		c.sum, c.latest = h, p.raw
		t.changed(c)
		t.covered()
	}
	t.spawn(c, state)
	return true
}

// snapshot stores how far a call has come.
func (c *call) snapshot(t *Translator) {
	t.plain(draft{
		id: derived(c.partID, "progress."+digest(c.latest)[:16]), typ: ToolProgress, session: c.session.id,
		actor: c.session.actor(c.message), cause: c.startID(), payload: c.latest,
	})
	c.latest = nil
}

func (t *Translator) toolEnded(c *call, p part, state toolState) {
	t.saved(&c.lag)
	c.latest = nil
	t.spawn(c, state)
	c.done, c.paths, c.scripts = true, nil, nil
	t.withdraw("the call ended without an answer", func(a *ask) bool {
		return a.call != "" && a.call == c.callID && a.session == c.session.id
	})
	cause := ""
	if c.started {
		cause = c.startID()
	}
	t.plain(draft{typ: event.ExecutionToolFinish, session: c.session.id, actor: c.session.actor(c.message), cause: cause, payload: p.raw})
	if c.intent == "" {
		return
	}
	end := event.IntentEnd{IntentID: c.intent, Duration: int64(max(state.Time.End-state.Time.Start, 0))}
	child := t.sessions[c.child]
	switch {
	case state.Status == "completed":
		end.Result = state.Output
		t.endIntent(c, event.AgentCompleted, end)
	case c.session.aborted || child != nil && child.aborted:
		end.Reason = cmp.Or(state.Error, "aborted")
		t.endIntent(c, event.AgentAborted, end)
	default:
		end.Error = cmp.Or(state.Error, "the task failed")
		t.endIntent(c, event.AgentFailed, end)
	}
}

// spawn makes an intent of a task that runs a session of its own.
func (t *Translator) spawn(c *call, state toolState) {
	var meta struct {
		Child string `json:"sessionId"`
	}
	if c.tool != "task" || c.intent != "" || !c.started || !isObject(state.Metadata) || !read(state.Metadata, &meta) || meta.Child == "" || meta.Child == c.session.id {
		return
	}
	if event.ValidateID("intent", c.partID) != nil {
		return
	}
	var in struct {
		Description string `json:"description"`
		Prompt      string `json:"prompt"`
		Agent       string `json:"subagent_type"`
	}
	read(state.Input, &in)
	c.intent, c.child = c.partID, meta.Child
	child := t.session(meta.Child)
	child.learn(info{ParentID: c.session.id, Agent: in.Agent})
	e := t.event(draft{
		id: derived(c.partID, "spawned"), typ: event.AgentSpawned, session: c.session.id,
		actor: c.session.actor(c.message), cause: c.startID(),
		payload: marshal(struct {
			event.Intent
			Session string `json:"session_id"`
			Call    string `json:"call_id,omitempty"`
		}{event.Intent{
			ID: c.intent, Description: cmp.Or(in.Description, "sub-agent"), Agent: cmp.Or(in.Agent, "agent"), Prompt: in.Prompt,
			ParentSessionID: c.session.id, Status: event.IntentRunning, CreatedAt: event.Milli(t.at), StartedAt: event.Milli(t.at),
		}, meta.Child, c.callID}),
	})
	t.out = append(t.out, source.Item{Kind: source.Spawn, Event: e, Intent: c.intent})
}

func (t *Translator) endIntent(c *call, typ string, end event.IntentEnd) {
	e := t.event(draft{
		id: derived(c.partID, "ended"), typ: typ, session: c.session.id, actor: c.session.actor(c.message),
		cause: derived(c.partID, "spawned"), payload: marshal(end),
	})
	t.out = append(t.out, source.Item{Kind: source.End, Event: e, Intent: c.intent})
	c.intent = ""
}

// mentions collects from a call's input what may tell which files it touches.
func mentions(input json.RawMessage) (paths, scripts []string) {
	var v any
	if !read(input, &v) {
		return nil, nil
	}
	const mostPaths, mostScripts = 64, 4
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case string:
			switch {
			case name == "command" || strings.HasPrefix(name, "patch"):
				if len(scripts) < mostScripts {
					scripts = append(scripts, clip(v, 64<<10))
				}
			case len(v) > 0 && len(v) <= 4096 && len(paths) < mostPaths && !strings.Contains(v, "\n"):
				paths = append(paths, v)
			}
		case []any:
			for _, e := range v {
				walk(name, e)
			}
		case map[string]any:
			for _, k := range sortedKeys(v) {
				walk(k, v[k])
			}
		}
	}
	walk("", v)
	return paths, scripts
}
