package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"
	"durablestream/internal/longtest"
)

// busEvents reads what a real OpenCode 1.18.33 sent.
func busEvents(t testing.TB, name string) []json.RawMessage {
	t.Helper()
	f, err := os.Open("../../internal/agents/opencode/testdata/" + name + ".jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var out []json.RawMessage
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c struct{ Event json.RawMessage }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		out = append(out, c.Event)
	}
	require.NoError(t, lines.Err())
	return out
}

// pluginProcess does what OpenCode's plugin does: it writes each event, keeps what has no
// answer, and sends it again to the next process.
type pluginProcess struct {
	*rpcProcess
	dir, instance string
	args          []string
	next          int
	open          map[int]json.RawMessage
	refused       []rpcMessage
	notes         []rpcMessage // notifications
	reading       chan rpcMessage
}

func startPlugin(t *testing.T, dir, instance string, args ...string) *pluginProcess {
	t.Helper()
	p := &pluginProcess{dir: dir, instance: instance, args: args, open: map[int]json.RawMessage{}}
	p.start(t)
	return p
}

// start starts a process and sends again.
func (p *pluginProcess) start(t *testing.T) {
	t.Helper()
	p.rpcProcess = startRPC(t, p.dir, p.args...)
	in, lines := p.in, p.lines
	reading := make(chan rpcMessage, 1<<16)
	p.reading = reading
	go func() { // reads always, as a plugin must
		defer close(reading)
		for {
			line, err := lines.ReadBytes('\n')
			var m rpcMessage
			if err != nil || json.Unmarshal(line, &m) != nil {
				return
			}
			reading <- m
		}
	}()
	for _, id := range slices.Sorted(maps.Keys(p.open)) {
		if _, err := in.Write(p.line(id)); err != nil {
			return // killed again
		}
	}
}

func (p *pluginProcess) line(id int) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"opencode.event","params":{"instance":%q,"event":%s}}`+"\n", id, p.instance, p.open[id])
}

// event sends one event, and does not care whether it arrives.
func (p *pluginProcess) event(e json.RawMessage) int {
	p.next++
	p.open[p.next] = e
	_, _ = p.in.Write(p.line(p.next))
	return p.next
}

func (p *pluginProcess) heard(m rpcMessage) {
	if m.Method != "" {
		p.notes = append(p.notes, m)
		return
	}
	id, _ := m.ID.(float64)
	if m.Error != nil {
		p.refused = append(p.refused, m)
	}
	delete(p.open, int(id))
}

// until reads until ok.
func (p *pluginProcess) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case m, more := <-p.reading:
			require.True(t, more, "the process ended before %s: %s", what, p.words)
			p.heard(m)
		case <-limit:
			require.Fail(t, "no "+what, "%s", p.words)
		}
	}
}

// kill kills the process. What it had answered is heard.
func (p *pluginProcess) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.ended
	for m := range p.reading {
		p.heard(m)
	}
}

// end ends the input, and all must have its answer.
func (p *pluginProcess) end(t *testing.T) {
	t.Helper()
	require.NoError(t, p.in.Close())
	p.waitEnd()
	for m := range p.reading {
		p.heard(m)
	}
	require.Empty(t, p.open, "without an answer")
	require.Empty(t, p.refused)
}

// recorded reads the whole log.
func recorded(t *testing.T, dir string) []event.Recorded {
	t.Helper()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	var out []event.Recorded
	for r, err := range d.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// passing reports whether an event tells how far something has come, which depends on
// when it was asked.
func passing(e event.Event) bool {
	var p struct{ Partial bool }
	return e.Type == opencode.ToolProgress || json.Unmarshal(e.Payload, &p) == nil && p.Partial
}

// checkLog compares a log with what the rules make of the events: none lost, none
// twice, in their order.
func checkLog(t *testing.T, events []json.RawMessage, instance string, log []event.Recorded) {
	t.Helper()
	tr, now := opencode.New(opencode.Config{Instance: instance}), time.Now()
	var want, got []string
	add := func(items []source.Item) {
		for _, i := range items {
			if !passing(i.Event) {
				want = append(want, i.Event.Type+" "+i.Event.ID+" "+i.Event.StreamID)
			}
		}
	}
	for _, e := range events {
		add(tr.Take(opencode.Parse(e), now))
	}
	add(tr.Flush(now))
	seen := map[string]bool{}
	for _, r := range log {
		require.False(t, seen[r.ID], "%s is there twice", r.ID)
		seen[r.ID] = true
		if !passing(r.Event) {
			got = append(got, r.Type+" "+r.ID+" "+r.StreamID)
		}
		require.NotContains(t, string(r.Payload), `"from_middle"`, "the beginning of a text is lost")
	}
	require.Equal(t, want, got)
}

// All that was captured, as fast as it goes: none lost, none twice, in order, and each
// answered.
func TestOpencodeEventsAtFullSpeed(t *testing.T) {
	t.Parallel()
	for _, name := range longtest.Pick([]string{"crash-before-restart", "crash-after-restart"}, []string{"session-events", "crash-before-restart", "crash-after-restart"}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := busEvents(t, name)
			dir := rpcDir(t)
			p := startPlugin(t, dir, "here:1")
			p.send("i", "initialize", object{})
			require.NotEmpty(t, (<-p.reading).Result)
			at := time.Now()
			for _, e := range events {
				p.event(e)
			}
			sent := time.Since(at)
			p.end(t)
			took := time.Since(at)
			log := recorded(t, dir)
			t.Logf("%d events taken in %v, stored as %d in %v: %.0f a second", len(events), sent.Round(time.Millisecond), len(log), took.Round(time.Millisecond), float64(len(events))/took.Seconds())
			if name == "crash-after-restart" {
				return // begins in the middle of everything
			}
			checkLog(t, events, "here:1", log)
		})
	}
}

// The process is killed again and again while events stream through it: the next one
// goes on where it was.
func TestOpencodeEventsThroughKills(t *testing.T) {
	t.Parallel()
	events := busEvents(t, "session-events")
	events = events[:longtest.Pick(2500, len(events))]
	every := longtest.Pick(400, 1100)
	dir := rpcDir(t)
	p := startPlugin(t, dir, "here:1")
	kills := 0
	for i, e := range events {
		p.event(e)
		if i%every == every/2 {
			before := len(p.open)
			p.until(t, "an answer", func() bool { return len(p.open) < before })
			p.kill(t)
			p.start(t)
			kills++
		}
	}
	p.end(t)
	require.Greater(t, kills, 5)
	checkLog(t, events, "here:1", recorded(t, dir))
}

// A text that streams when the process is killed is whole in the next one: to the last
// piece, and each piece once.
func TestOpencodeTextThroughAKill(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startPlugin(t, dir, "here:1")
	n := 0
	bus := func(typ, properties string) int {
		n++
		return p.event(fmt.Appendf(nil, `{"id":"evt_%012x001abcdefghijkl","type":%q,"properties":%s}`, (time.Now().UnixMilli()<<12|int64(n))&(1<<48-1), typ, properties))
	}
	want := ""
	piece := func() int {
		want += fmt.Sprintf("word%d ", n)
		return bus("message.part.delta", fmt.Sprintf(`{"sessionID":"ses_1","messageID":"msg_1","partID":"prt_1","field":"text","delta":"word%d "}`, n))
	}
	bus("session.created", `{"sessionID":"ses_1","info":{"id":"ses_1","title":"T"}}`)
	bus("session.status", `{"sessionID":"ses_1","status":{"type":"busy"}}`)
	bus("message.updated", `{"sessionID":"ses_1","info":{"id":"msg_1","sessionID":"ses_1","role":"assistant","agent":"build","time":{"created":1}}}`)
	begun := bus("message.part.updated", `{"sessionID":"ses_1","part":{"id":"prt_1","sessionID":"ses_1","messageID":"msg_1","type":"reasoning","text":"","time":{"start":1}}}`)
	for range 5 {
		var first, last int
		for i := range 50 {
			if last = piece(); i == 0 {
				first = last
			}
		}
		_ = first
		at := time.Now()
		p.until(t, "the answer to a piece", func() bool { return p.open[last] == nil })
		require.Less(t, time.Since(at), 10*time.Second)
		require.Nil(t, p.open[begun])
		for range 20 { // and some that are in no snapshot
			piece()
		}
		sync := p.next + 1
		bus("session.diff", fmt.Sprintf(`{"sessionID":"ses_1","diff":[%d]}`, n))
		p.until(t, "an answer behind them", func() bool { return p.open[sync] == nil })
		require.NotEmpty(t, p.open, "the pieces have no answer before their snapshot")
		p.kill(t)
		p.start(t)
	}
	bus("message.part.updated", `{"sessionID":"ses_1","part":{"id":"prt_2","sessionID":"ses_1","messageID":"msg_1","type":"text","text":"","time":{"start":1}}}`)
	p.end(t) // with a text that has only begun
	var last struct {
		Text    string
		Partial bool
	}
	for _, r := range recorded(t, dir) {
		if strings.HasSuffix(r.Type, "_snapshot") {
			require.Equal(t, event.ExecutionReasoningSnapshot, r.Type)
			require.Equal(t, "agent/build", r.Actor)
			require.NoError(t, json.Unmarshal(r.Payload, &last))
			require.True(t, strings.HasPrefix(want, last.Text), "%q", last.Text)
		}
		require.NotContains(t, string(r.Payload), "from_middle")
	}
	require.Equal(t, want, last.Text)
	require.True(t, last.Partial)
}

// The log's host is killed in the middle: the process that the events go to takes over,
// and OpenCode sees nothing of it.
func TestOpencodeEventsHostKilled(t *testing.T) {
	longtest.Only(t, "TestOpencodeEventsThroughKills kills the process that translates, and TestRPCHostKilled kills the host of one")
	t.Parallel()
	events := busEvents(t, "session-events")
	dir := rpcDir(t)
	host := as(t, "dstream", &syncBuffer{}, nil, "--dir", dir, "serve")
	require.NoError(t, host.Start())
	require.True(t, appears(t, filepath.Join(dir, "durable_stream", "address")))
	p := startPlugin(t, dir, "here:1")
	for i, e := range events {
		p.event(e)
		if i == 2000 {
			p.until(t, "an answer", func() bool { return len(p.open) < 1500 })
			require.NoError(t, host.Process.Kill())
			_ = host.Wait()
		}
	}
	p.end(t)
	checkLog(t, events, "here:1", recorded(t, dir))
}

// Two processes bring the same events at the same time: each is stored once, in order.
func TestOpencodeEventsOfTwo(t *testing.T) {
	t.Parallel()
	events := busEvents(t, "session-events")
	events = events[:longtest.Pick(1200, len(events))]
	dir := rpcDir(t)
	d := human(t, dir)
	p, q := startPlugin(t, dir, "here:1"), startPlugin(t, dir, "here:2")
	at := time.Now()
	for _, e := range events {
		p.event(e)
		q.event(e)
	}
	p.end(t)
	q.end(t)
	t.Logf("twice %d events in %v", len(events), time.Since(at).Round(time.Millisecond))
	require.NoError(t, d.Close())
	checkLog(t, events, "here:1", recorded(t, dir))
}
