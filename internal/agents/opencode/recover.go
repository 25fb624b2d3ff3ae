package opencode

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// Recovery is what a log tells about the sessions of OpenCode.
//
// A session that is at work right now looks the same as one that was interrupted:
// Session.Instance says which run of OpenCode it was last seen in, and the caller
// knows which runs are alive.
type Recovery struct {
	// Sessions are those with something left over: interrupted, or with calls of
	// unknown outcome, or with open questions; in the order of their last events.
	Sessions []Session `json:"sessions"`
}

// Session is what is known of a session.
type Session struct {
	ID          string `json:"id"`
	ParentID    string `json:"parent_id,omitempty"`
	Title       string `json:"title,omitempty"`
	Agent       string `json:"agent,omitempty"`
	Directory   string `json:"directory,omitempty"`
	Instance    string `json:"instance,omitempty"` // Config.Instance of its last event
	Interrupted bool   `json:"interrupted"`        // was at work, and nothing says that it stopped
	Deleted     bool   `json:"deleted,omitempty"`

	LastSeq event.Sequence `json:"last_seq"`
	LastAt  int64          `json:"last_at"` // Unix ms

	Prompt    string        `json:"prompt,omitempty"`    // what the user said last
	Text      string        `json:"text,omitempty"`      // what the agent said last
	Reasoning string        `json:"reasoning,omitempty"` // what it thought last
	TextAt    int64         `json:"text_at,omitempty"`   // Unix ms
	Partial   bool          `json:"partial,omitempty"`   // Text was still streaming
	Retry     *event.Retry  `json:"retry,omitempty"`     // it was waiting to call the model again
	Error     string        `json:"error,omitempty"`     // the name of its last error in this turn
	Tools     []UnknownTool `json:"tools,omitempty"`     // began and did not end
	Agents    []string      `json:"agents,omitempty"`    // sessions of sub-agents that did not end
	Questions []Question    `json:"questions,omitempty"` // nobody answered
	Answered  []Question    `json:"answered,omitempty"`  // decided, and OpenCode was not told
}

// UnknownTool is a call that began and of which no end is known: it may have done
// its work, some of it, or nothing; a shell's child may still run.
type UnknownTool struct {
	event.Tool
	Seq       event.Sequence `json:"seq"`
	StartedAt int64          `json:"started_at"` // Unix ms
	Instance  string         `json:"instance,omitempty"`

	intent, child string
	sum           [32]byte // of the part as it was stored last
}

// Question is an open checkpoint that OpenCode asked for.
type Question struct {
	event.Checkpoint
	Seq      event.Sequence `json:"seq"`
	CallID   string         `json:"call_id,omitempty"` // that it belongs to
	Instance string         `json:"instance,omitempty"`
	Status   string         `json:"status,omitempty"` // "approved" or "rejected"
	By       string         `json:"by,omitempty"`     // who decided

	session, event string
	tool           bool // asked by the plugin's tool, which looks after it itself
}

// Fold gathers a Recovery from events in the order of the log. The zero value is
// ready. It keeps a few hundred bytes a session, and the last texts of those at work.
type Fold struct {
	// Instance is a run of OpenCode that goes on: what its Translator had in memory is
	// gathered too, for Seed. Default: none.
	Instance string

	memory    *memory
	sessions  map[string]*Session
	idle      map[string]bool // the session's last turn ended
	questions map[string]*Question
	answered  map[string]*Question
	intents   map[string]agent // those that did not end
}

// agent is a sub-agent: who started it, and the session of its own.
type agent struct{ parent, child, instance string }

// Recover folds all events.
func Recover(events iter.Seq[event.Recorded]) Recovery {
	var f Fold
	for r := range events {
		f.Apply(r)
	}
	return f.Recovery()
}

// Types are the types of event that Apply looks at, for a query's filter.
func (*Fold) Types() []string {
	types := []string{"checkpoint.*", decisionUsed}
	return append(types, sortedKeys(folds)...)
}

// Apply takes one event. What it cannot read changes nothing.
func (f *Fold) Apply(r event.Recorded) {
	if f.sessions == nil {
		f.sessions, f.idle = map[string]*Session{}, map[string]bool{}
		f.questions, f.answered, f.intents = map[string]*Question{}, map[string]*Question{}, map[string]agent{}
	}
	if f.Instance != "" && f.Instance == instance(r) {
		f.remember(r)
	}
	if f.checkpoint(r) {
		return
	}
	apply, ok := folds[r.Type]
	if !ok {
		return
	}
	s := f.sessions[r.StreamID]
	if s == nil {
		s = &Session{ID: r.StreamID}
		f.sessions[r.StreamID] = s
	}
	s.LastSeq, s.LastAt = r.Seq, r.Milli()
	s.Instance = cmp.Or(instance(r), s.Instance)
	apply(f, s, r)
}

var folds = map[string]func(*Fold, *Session, event.Recorded){
	event.LifecycleSessionCreated:    (*Fold).info,
	prefix + "session.updated":       (*Fold).info,
	prefix + "session.status":        (*Fold).status,
	event.LifecycleSessionIdle:       (*Fold).ended,
	event.LifecycleSessionAborted:    (*Fold).ended,
	event.LifecycleSessionDeleted:    (*Fold).deleted,
	event.LifecycleSessionError:      (*Fold).failed,
	event.ExecutionRetry:             (*Fold).retry,
	event.ExecutionTextSnapshot:      (*Fold).text,
	event.ExecutionReasoningSnapshot: (*Fold).text,
	event.ExecutionToolStart:         (*Fold).tool,
	ToolProgress:                     (*Fold).tool,
	event.ExecutionToolFinish:        (*Fold).toolEnded,
	event.AgentSpawned:               (*Fold).spawned,
	event.AgentCompleted:             (*Fold).agentEnded,
	event.AgentFailed:                (*Fold).agentEnded,
	event.AgentAborted:               (*Fold).agentEnded,
}

func (f *Fold) info(s *Session, r event.Recorded) {
	var p struct {
		event.Session
		Info *event.Session `json:"info"`
	}
	if !read(r.Payload, &p) {
		return
	}
	if p.Info == nil {
		p.Info = &p.Session
	}
	s.ParentID, s.Title = cmp.Or(p.Info.ParentID, s.ParentID), cmp.Or(p.Info.Title, s.Title)
	s.Agent, s.Directory = cmp.Or(p.Info.Agent, s.Agent), cmp.Or(p.Info.Directory, s.Directory)
}

func (f *Fold) busy(s *Session, _ event.Recorded) {
	s.Interrupted, s.Error, s.Retry = true, "", nil
	f.idle[s.ID] = false
}

func (f *Fold) status(s *Session, r event.Recorded) {
	var p struct {
		Status struct {
			Type string `json:"type"`
		} `json:"status"`
	}
	if read(r.Payload, &p) && p.Status.Type == "busy" {
		f.busy(s, r)
	}
}

func (f *Fold) ended(s *Session, _ event.Recorded) {
	s.Interrupted, s.Partial, s.Retry = false, false, nil
	f.idle[s.ID] = true
}

func (f *Fold) deleted(s *Session, r event.Recorded) {
	f.ended(s, r)
	*s = Session{ID: s.ID, Title: s.Title, Deleted: true, LastSeq: s.LastSeq, LastAt: s.LastAt, Instance: s.Instance}
}

func (f *Fold) failed(s *Session, r event.Recorded) {
	var p event.SessionError
	if read(r.Payload, &p) && p.Error != nil {
		s.Error = p.Error.Name
	}
}

func (f *Fold) retry(s *Session, r event.Recorded) {
	var p event.Retry
	if read(r.Payload, &p) {
		f.busy(s, r)
		s.Retry = &p
	}
}

func (f *Fold) text(s *Session, r event.Recorded) {
	var p struct {
		Text      string `json:"text"`
		Partial   bool   `json:"partial"`
		Synthetic bool   `json:"synthetic"`
	}
	if !read(r.Payload, &p) {
		return
	}
	switch {
	case r.Actor == "user":
		if !p.Synthetic {
			s.Prompt = p.Text
		}
	case r.Type == event.ExecutionReasoningSnapshot:
		s.Reasoning = p.Text
	default:
		s.Text, s.TextAt, s.Partial, s.Retry = p.Text, r.Milli(), p.Partial, nil
	}
}

// tool takes a call that began, or its progress.
func (f *Fold) tool(s *Session, r event.Recorded) {
	u := UnknownTool{Seq: r.Seq, StartedAt: r.Milli(), Instance: instance(r)}
	if !read(r.Payload, &u.Tool) {
		return
	}
	u.sum = sum(r.Payload)
	if i := slices.IndexFunc(s.Tools, func(o UnknownTool) bool { return o.ID == u.ID }); i >= 0 {
		s.Tools[i].Tool, s.Tools[i].sum = u.Tool, u.sum
		return
	}
	if r.Type == event.ExecutionToolStart {
		f.busy(s, r)
		s.Tools = append(s.Tools, u)
	}
}

func (f *Fold) toolEnded(s *Session, r event.Recorded) {
	var p event.Part
	if read(r.Payload, &p) {
		s.Tools = slices.DeleteFunc(s.Tools, func(u UnknownTool) bool { return u.ID == p.ID })
	}
}

func (f *Fold) spawned(s *Session, r event.Recorded) {
	var p struct {
		ID      string `json:"id"`
		Session string `json:"session_id"`
	}
	if !read(r.Payload, &p) || p.Session == "" {
		return
	}
	f.intents[p.ID] = agent{s.ID, p.Session, instance(r)}
	s.Agents = append(s.Agents, p.Session)
	for i := range s.Tools {
		if s.Tools[i].ID == p.ID {
			s.Tools[i].intent, s.Tools[i].child = p.ID, p.Session
		}
	}
	child := f.sessions[p.Session]
	if child == nil {
		child = &Session{ID: p.Session, LastSeq: r.Seq, LastAt: r.Milli()}
		f.sessions[p.Session] = child
	}
	child.ParentID = s.ID
}

func (f *Fold) agentEnded(_ *Session, r event.Recorded) {
	var p event.IntentEnd
	if !read(r.Payload, &p) {
		return
	}
	a := f.intents[p.IntentID]
	delete(f.intents, p.IntentID)
	if s := f.sessions[a.parent]; s != nil {
		if i := slices.Index(s.Agents, a.child); i >= 0 {
			s.Agents = slices.Delete(s.Agents, i, i+1)
		}
	}
}

// Delivered says that a decision went to the model's call of the plugin's tool that
// asked for it: its payload names the checkpoint as checkpoint_id.
const Delivered = "checkpoint.delivered"

// checkpoint takes a request of OpenCode's or of the plugin's tool, which names its
// call in the metadata, and any decision that stands behind its guard (none other
// counts).
func (f *Fold) checkpoint(r event.Recorded) bool {
	switch typ := r.Type; {
	case typ == event.CheckpointRequested:
		var p event.Checkpoint
		var a struct {
			Kind string `json:"opencode"`
		}
		var asked request
		if !read(r.Payload, &p) {
			return true
		}
		call := toolCall(r)
		tool := call != ""
		if !tool { // the tool's action is the model's, and may look like anything
			if !isObject(p.Action) || !read(p.Action, &a) || a.Kind == "" {
				return true
			}
			read(p.Action, &asked)
			call = asked.Tool.CallID
		}
		if _, ok := f.questions[p.ID]; !ok {
			f.questions[p.ID] = &Question{Checkpoint: p, Seq: r.Seq, CallID: call, Instance: instance(r), session: r.StreamID, event: r.ID, tool: tool}
		}
	case event.IsDecision(typ):
		f.decision(r)
	case typ == decisionUsed:
		var p source.Used
		if r.Guard != "" && read(r.Payload, &p) {
			delete(f.answered, p.Checkpoint)
		}
	case typ == Delivered:
		var p struct {
			ID string `json:"checkpoint_id"`
		}
		if read(r.Payload, &p) {
			delete(f.answered, p.ID)
		}
	default:
		return r.Type == event.CheckpointCancelRequested
	}
	return true
}

func (f *Fold) decision(r event.Recorded) {
	var p struct {
		ID string `json:"checkpoint_id"`
	}
	if r.Guard == "" || !read(r.Payload, &p) {
		return
	}
	q := f.questions[p.ID]
	delete(f.questions, p.ID)
	if q == nil || instance(r) != "" || r.Type == event.CheckpointExpired || r.Type == event.CheckpointCancelled {
		return // OpenCode's own, or no answer at all
	}
	q.Status, q.By = strings.TrimPrefix(r.Type, "checkpoint."), r.Actor
	f.answered[q.ID] = q
}

// Recovery returns what is left over as of the events applied so far.
func (f *Fold) Recovery() Recovery {
	out := Recovery{Sessions: []Session{}}
	open, answered := bySession(f.questions), bySession(f.answered)
	for id := range open {
		if f.sessions[id] == nil {
			f.sessions[id] = &Session{ID: id}
		}
	}
	for _, s := range f.sessions {
		c := *s
		c.Tools, c.Agents, c.Questions = slices.Clone(s.Tools), slices.Clone(s.Agents), open[s.ID]
		c.Answered = answered[s.ID]
		if c.Interrupted || len(c.Tools) > 0 || len(c.Questions) > 0 {
			out.Sessions = append(out.Sessions, c)
		}
	}
	slices.SortFunc(out.Sessions, func(a, b Session) int {
		return cmp.Or(cmp.Compare(a.LastSeq, b.LastSeq), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func bySession(questions map[string]*Question) map[string][]Question {
	of := map[string][]Question{}
	for _, q := range questions {
		of[q.session] = append(of[q.session], *q)
	}
	for _, qs := range of {
		slices.SortFunc(qs, func(a, b Question) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return of
}
