package opencode_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"
	"durablestream/internal/longtest"

	"github.com/stretchr/testify/require"
)

// captured is a line of a capture.
type captured struct {
	ReceivedAt int64           `json:"received_at"`
	Event      json.RawMessage `json:"event"`
}

func (c captured) bus() opencode.BusEvent { return opencode.Parse(c.Event) }
func (c captured) now() time.Time         { return time.UnixMilli(c.ReceivedAt) }

// captures and wholeCapture are shared by the tests of this package, which only read them.
var (
	captures     sync.Map // name → func() []captured
	wholeCapture = sync.OnceValue(func() []source.Item {
		lines, _ := captures.Load("session-events")
		return replay(opencode.New(opencode.Config{}), lines.(func() []captured)())
	})
)

// capture is what a real OpenCode 1.18.33 sent.
func capture(t testing.TB, name string) []captured {
	t.Helper()
	lines, _ := captures.LoadOrStore(name, sync.OnceValue(func() []captured { return readCapture(t, name) }))
	return lines.(func() []captured)()
}

// replayed is what a translator makes of the whole of session-events.
func replayed(t testing.TB) []source.Item {
	t.Helper()
	capture(t, "session-events")
	return wholeCapture()
}

func readCapture(t testing.TB, name string) []captured {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var out []captured
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c captured
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		out = append(out, c)
	}
	require.NoError(t, lines.Err())
	return out
}

// replay takes a capture at its own times, with each tick when it is due.
func replay(tr *opencode.Translator, lines []captured) []source.Item {
	var out []source.Item
	for _, c := range lines {
		for at, ok := tr.Due(); ok && at.Before(c.now()); at, ok = tr.Due() {
			out = append(out, tr.Tick(at)...)
		}
		out = append(out, tr.Take(c.bus(), c.now())...)
	}
	return out
}

func ids(items []source.Item) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Event.ID)
	}
	return out
}

func count(items []source.Item, keep func(source.Item) bool) int {
	n := 0
	for _, i := range items {
		if keep(i) {
			n++
		}
	}
	return n
}

func byType(items []source.Item) map[string]int {
	m := map[string]int{}
	for _, i := range items {
		m[i.Event.Type]++
	}
	return m
}

func partial(i source.Item) bool {
	var p struct {
		Partial bool `json:"partial"`
	}
	return json.Unmarshal(i.Event.Payload, &p) == nil && p.Partial
}

// record gives items Sequences, as a log would: each id once, decisions behind a
// guard.
func record(items []source.Item) []event.Recorded {
	var out []event.Recorded
	seen := map[string]bool{}
	for _, i := range items {
		if seen[i.Event.ID] {
			continue
		}
		seen[i.Event.ID] = true
		r := event.Recorded{Event: i.Event, Seq: event.Sequence(len(out) + 1)}
		if i.Kind == source.Ask || i.Kind == source.Decide || i.Kind == source.Withdraw {
			r.Guard = "behind its guard"
		}
		out = append(out, r)
	}
	return out
}

func requireValid(t testing.TB, items []source.Item) {
	t.Helper()
	seen := map[string]bool{}
	for _, i := range items {
		require.NoError(t, i.Event.Validate(), "%s %s", i.Event.Type, i.Event.ID)
		require.False(t, seen[i.Event.ID], "%s %s is given out twice", i.Event.Type, i.Event.ID)
		seen[i.Event.ID] = true
		if i.Else != nil {
			require.NoError(t, i.Else.Validate())
			require.NotEqual(t, i.Event.ID, i.Else.ID)
		}
	}
}

// raw is one bus event of a capture, read without the package under test.
type raw struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Properties struct {
		SessionID string          `json:"sessionID"`
		PartID    string          `json:"partID"`
		Delta     string          `json:"delta"`
		Info      json.RawMessage `json:"info"`
		Status    struct {
			Type string `json:"type"`
		} `json:"status"`
		Part struct {
			ID        string `json:"id"`
			Type      string `json:"type"`
			Text      string `json:"text"`
			Tool      string `json:"tool"`
			MessageID string `json:"messageID"`
			Time      struct {
				End int64 `json:"end"`
			} `json:"time"`
			State struct {
				Status string `json:"status"`
			} `json:"state"`
		} `json:"part"`
	} `json:"properties"`
}

// What the log must hold of the big capture, counted from the capture by what each
// type means, and not by what the translator does.
func TestCaptureByTheRules(t *testing.T) {
	t.Parallel()
	lines := capture(t, "session-events")
	tr := opencode.New(opencode.Config{})
	items := replay(tr, lines)
	items = append(items, tr.Flush(lines[len(lines)-1].now())...)
	requireValid(t, items)

	want := map[string]int{}
	started, ended, roles := map[string]bool{}, map[string]bool{}, map[string]bool{}
	idle := map[string]bool{}
	var deltas int
	texts := map[string]string{}  // part → the whole text, joined by hand
	finals := map[string]string{} // part → what OpenCode said at its end
	for _, c := range lines {
		var e raw
		require.NoError(t, json.Unmarshal(c.Event, &e))
		p := e.Properties.Part
		switch e.Type {
		case "session.created", "session.error", "session.compacted", "session.deleted":
			want["lifecycle."+e.Type]++
		case "session.status":
			switch e.Properties.Status.Type {
			case "busy":
				idle[e.Properties.SessionID] = false
			case "retry":
				want["execution.retry"]++
			}
		case "session.idle":
			if !idle[e.Properties.SessionID] {
				want["lifecycle.session.idle"]++
			}
			idle[e.Properties.SessionID] = true
		case "message.updated":
			var i struct {
				ID   string
				Role string
				Time struct{ Completed int64 }
			}
			require.NoError(t, json.Unmarshal(e.Properties.Info, &i))
			roles[i.ID] = i.Role == "user"
			if i.Role == "assistant" && i.Time.Completed > 0 && !ended[i.ID] {
				want["assistant done"]++
				ended[i.ID] = true
			}
		case "message.part.updated":
			switch p.Type {
			case "step-start", "step-finish", "patch":
				want[p.Type]++
			case "tool":
				if p.State.Status == "running" && !started[p.ID] {
					started[p.ID] = true
					want["execution.tool_start"]++
					if p.Tool == "task" {
						want["agent.spawned"]++
					}
				}
				if p.State.Status == "completed" || p.State.Status == "error" {
					want["execution.tool_finish"]++
				}
			case "text", "reasoning":
				if p.Time.End > 0 || roles[p.MessageID] {
					finals[p.ID] = p.Text
				}
			}
		case "message.part.delta":
			deltas++
			texts[e.Properties.PartID] += e.Properties.Delta
		case "file.edited":
			want["files.changed"]++
		case "permission.asked", "question.asked":
			want["checkpoint.requested"]++
		}
	}
	for part, joined := range texts {
		if _, ok := finals[part]; !ok {
			finals[part] = joined // an abort: no end, and what came is all there is
		}
	}

	got := byType(items)
	for typ, name := range map[string]string{
		"lifecycle.session.created": "", "lifecycle.session.error": "", "lifecycle.session.compacted": "",
		"lifecycle.session.deleted": "", "lifecycle.session.idle": "", "execution.retry": "",
		"execution.tool_start": "", "execution.tool_finish": "", "agent.spawned": "", "files.changed": "",
		"checkpoint.requested": "", "execution.step_start": "step-start", "execution.step_finish": "step-finish",
		"files.patched": "patch",
	} {
		if name == "" {
			name = typ
		}
		require.NotZero(t, want[name], name)
		require.Equal(t, want[name], got[typ], typ)
	}
	require.Equal(t, want["assistant done"], count(items, func(i source.Item) bool {
		return i.Event.Type == event.ExecutionMessageUpdated && i.Event.Actor != "user"
	}))

	// The figures that can be told from the scenario itself.
	require.Equal(t, 92, want["assistant done"])
	require.Equal(t, 56, got[event.ExecutionToolStart], "61 calls, less 5 that a fork copied")
	require.Equal(t, 61, got[event.ExecutionToolFinish])
	require.Equal(t, 43, got[event.LifecycleSessionIdle], "50, less the second ones of 5 aborts and 2 provider errors")
	require.Equal(t, 5, got[event.ExecutionRetry])
	require.Equal(t, 4, got[event.AgentSpawned])
	require.Equal(t, 3, got[event.AgentCompleted])
	require.Equal(t, 1, got[event.AgentAborted])
	require.Zero(t, got[event.AgentFailed])
	require.Equal(t, 3, got[event.CheckpointApproved], "once, always, and an answer")
	require.Equal(t, 3, got[event.CheckpointRejected], "two permissions and a question")
	require.Equal(t, 1, got[event.CheckpointCancelled], "aborted while it asked")
	require.Equal(t, 15, got[event.FilesChanged])
	require.Zero(t, count(items, func(i source.Item) bool {
		return i.Event.Type == event.FilesChanged && i.Event.StreamID == "opencode"
	}), "each edit can be told to a session")
	require.Equal(t, 90, got["opencode.plugin.added"])
	require.Equal(t, 7, got["opencode.todo.updated"])
	require.Equal(t, deltas, tr.Stats().Joined)

	// The last snapshot of each text is the whole text.
	last, lastPartial := map[string]string{}, map[string]bool{}
	for _, i := range items {
		if i.Event.Type == event.ExecutionTextSnapshot || i.Event.Type == event.ExecutionReasoningSnapshot {
			var p event.Text
			require.NoError(t, json.Unmarshal(i.Event.Payload, &p))
			last[p.PartID], lastPartial[p.PartID] = p.Text, partial(i)
		}
	}
	require.Equal(t, finals, last)
	require.NotContains(t, lastPartial, true)
	require.Zero(t, tr.Stats().Cut, "even 1.1 MB is kept whole")
	t.Logf("%d bus events, %d items, %d partial snapshots, %d covered: %v", len(lines), len(items), count(items, partial), tr.Stats().Covered, got)
}

// Each bus event that is no delta is in the log under its own id, or one rule of
// docs/opencode.md says why not.
func TestNoneLostWithoutARule(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"session-events", "crash-before-restart", "crash-after-restart"} {
		lines := capture(t, name)
		stored := map[string]bool{}
		for _, i := range replay(opencode.New(opencode.Config{}), lines) {
			stored[i.Event.ID] = true
		}
		before := map[string]string{} // what was said last about this thing
		seen := map[string]bool{}
		for _, c := range lines {
			var e raw
			require.NoError(t, json.Unmarshal(c.Event, &e))
			var props struct{ Properties json.RawMessage }
			require.NoError(t, json.Unmarshal(c.Event, &props))
			p := e.Properties
			why := ""
			thing := e.Type + p.SessionID
			switch e.Type {
			case "message.part.delta":
				why = "joined into a snapshot"
			case "session.status":
				switch {
				case p.Status.Type == "idle":
					why = "session.idle says so"
				case p.Status.Type == "busy" && seen["busy"+p.SessionID]:
					why = "is busy"
				}
				seen["busy"+p.SessionID] = p.Status.Type != "idle"
			case "session.idle":
				if seen["idle"+p.SessionID] && !seen["busy again"+p.SessionID] {
					why = "second of a turn"
				}
				seen["idle"+p.SessionID] = true
			case "message.part.updated":
				switch {
				case p.Part.Type == "tool" && (p.Part.State.Status == "pending" || p.Part.State.Status == "running"):
					why = "one start a call"
				case p.Part.Text == "" && (p.Part.Type == "text" || p.Part.Type == "reasoning"):
					why = "a text begins"
				}
			case "message.updated":
				var i struct{ ID string }
				require.NoError(t, json.Unmarshal(p.Info, &i))
				thing = e.Type + i.ID
			}
			if why == "" && before[thing] == string(props.Properties) && slices.Contains([]string{"message.updated", "session.updated", "session.diff", "todo.updated"}, e.Type) {
				why = "said just before"
			}
			before[thing] = string(props.Properties)
			if why == "" && e.Type != "session.idle" {
				require.True(t, stored[e.ID], "%s: %s %s is not in the log", name, e.Type, e.ID)
			}
			if e.Type == "session.status" && p.Status.Type != "idle" {
				seen["busy again"+p.SessionID] = true
			}
			if e.Type == "session.idle" {
				if why == "" {
					require.True(t, stored[e.ID], "%s: %s %s is not in the log", name, e.Type, e.ID)
				}
				seen["busy again"+p.SessionID] = false
			}
		}
	}
}

func TestReplayGivesTheSameIDs(t *testing.T) {
	t.Parallel()
	lines := capture(t, "session-events")
	lines = lines[:longtest.Pick(3000, len(lines))]
	a := replay(opencode.New(opencode.Config{}), lines)
	require.Equal(t, a, replay(opencode.New(opencode.Config{}), lines))

	// Later, and all at once: other partial snapshots, all else the same. A month is
	// the most that the time in an id is believed.
	tr := opencode.New(opencode.Config{})
	var b []source.Item
	for _, c := range lines {
		b = append(b, tr.Take(c.bus(), c.now().Add(24*time.Hour))...)
	}
	whole := func(i source.Item) bool { return partial(i) || i.Event.Type == opencode.ToolProgress }
	require.Equal(t, ids(slices.DeleteFunc(slices.Clone(a), whole)), ids(slices.DeleteFunc(b, whole)))
}

func TestDuplicatesGiveNothing(t *testing.T) {
	t.Parallel()
	lines := capture(t, "session-events")
	lines = lines[:longtest.Pick(3000, len(lines))]
	want := replay(opencode.New(opencode.Config{}), lines)
	var twice []captured
	for i, c := range lines {
		twice = append(twice, c, c)
		if i >= 50 {
			again := lines[i-50]
			again.ReceivedAt = c.ReceivedAt
			twice = append(twice, again)
		}
	}
	tr := opencode.New(opencode.Config{})
	require.Equal(t, ids(want), ids(replay(tr, twice)))
	require.Equal(t, 2*len(lines)-50, tr.Stats().Repeated)
}

// A process that is started again in the middle, and sends again the last events
// that were not acknowledged: with what the log has, nothing is there twice.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	lines := capture(t, "session-events")
	cfg := opencode.Config{Instance: "here:1"}
	want := map[string]int{}
	whole := func(i source.Item) bool {
		return !partial(i) && i.Event.Type != opencode.ToolProgress
	}
	for _, i := range replay(opencode.New(cfg), lines) {
		if whole(i) {
			want[i.Event.Type]++
		}
	}
	for _, at := range longtest.Pick([]int{4950}, []int{130, 2620, 3223, 3368, 3554, 4950}) {
		first := replay(opencode.New(cfg), lines[:at])
		f := opencode.Fold{Instance: cfg.Instance}
		for _, r := range record(first) {
			f.Apply(r)
		}
		tr := opencode.New(cfg)
		tr.Seed(&f)
		got := map[string]int{}
		stored := map[string]bool{}
		for _, i := range append(first, replay(tr, lines[at-20:])...) {
			if whole(i) && !stored[i.Event.ID] {
				got[i.Event.Type]++
			}
			stored[i.Event.ID] = true
		}
		for typ := range want {
			require.Equal(t, want[typ], got[typ], "%s, cut at %d", typ, at)
		}
	}
}
