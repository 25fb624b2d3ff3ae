package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/longtest"
)

// rpcProcess is a `dstream rpc` under test.
type rpcProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.ReadCloser
	lines *bufio.Reader
	words *syncBuffer
	ended chan error
}

func startRPC(t *testing.T, dir string, args ...string) *rpcProcess {
	t.Helper()
	p := &rpcProcess{t: t, words: &syncBuffer{}, ended: make(chan error, 1)}
	p.cmd = as(t, "dstream", p.words, nil, append([]string{"--dir", dir, "rpc"}, args...)...)
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	p.out, err = p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() { // not Wait, which would close the pipes
		state, err := p.cmd.Process.Wait()
		if err == nil && !state.Success() {
			err = fmt.Errorf("%v", state)
		}
		p.ended <- err
	}()
	p.lines = bufio.NewReaderSize(p.out, 1<<16)
	return p
}

// send writes one request.
func (p *rpcProcess) send(id any, method string, params any) {
	p.t.Helper()
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	require.NoError(p.t, err)
	_, err = p.in.Write(append(b, '\n'))
	require.NoError(p.t, err, p.words)
}

type rpcMessage struct {
	ID     any
	Method string
	Params struct {
		Subscription string
		Seq          event.Sequence
		Event        event.Recorded

		SessionID, Kind, RequestID, Reply, Message, By, Text string // of opencode.…
		Answers                                              [][]string
	}
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    map[string]any
	}
}

// read reads one message, whatever it is.
func (p *rpcProcess) read() rpcMessage {
	p.t.Helper()
	line, err := p.lines.ReadBytes('\n')
	require.NoError(p.t, err, p.words)
	var m rpcMessage
	require.NoError(p.t, json.Unmarshal(line, &m), "%s", line)
	return m
}

// ask sends a request and reads its answer, which is the next message.
func (p *rpcProcess) ask(method string, params any) rpcMessage {
	p.t.Helper()
	p.send("ask", method, params)
	m := p.read()
	require.Equal(p.t, "ask", m.ID)
	return m
}

// inOrder reads the answers of n appends to "ses", and the events of the subscription
// "s": each kind comes whole and in order. It calls answered with how many answers have
// come, and the last.
func (p *rpcProcess) inOrder(n int, answered func(count int, m rpcMessage)) {
	p.t.Helper()
	answers, events := 0, 0
	for answers < n || events < n {
		m := p.read()
		switch {
		case m.Method == "event":
			require.Equal(p.t, fmt.Sprintf("ses-%d", events), m.Params.Event.ID)
			events++
		case m.ID != "s":
			require.EqualValues(p.t, answers, m.ID)
			answers++
			answered(answers, m)
		}
	}
}

func (p *rpcProcess) waitEnd() {
	p.t.Helper()
	require.NoError(p.t, p.end(), p.words)
}

// end waits until the process has ended, and says how.
func (p *rpcProcess) end() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(p.t, "dstream rpc did not end", p.words.String())
		return nil
	}
}

// numbered are the params of an append whose payload holds n.
func numbered(stream string, n int) map[string]any {
	return map[string]any{"event": map[string]any{
		"id": fmt.Sprintf("%s-%d", stream, n), "type": "task.created", "stream_id": stream, "actor": "agent/rpc", "payload": map[string]int{"n": n},
	}}
}

// checkNumbered checks that a stream holds 0 to n-1, once each, in order.
func checkNumbered(t *testing.T, dir, stream string, n int) {
	t.Helper()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	next := 0
	for r, err := range d.Query(t.Context(), event.Filter{StreamID: stream}) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"n":%d}`, next), string(r.Payload))
		next++
	}
	require.Equal(t, n, next)
}

func rpcDir(t *testing.T) string { return filepath.Join(t.TempDir(), ".opencode") }

// A thousand appends that nobody waits for are recorded, and answered, in their order.
func TestRPCKeepsOrder(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startRPC(t, dir)
	const n = 1000
	go func() {
		for i := range n {
			p.send(i, "append", numbered("ses", i))
		}
		p.send("q", "query", map[string]any{"stream_id": "ses", "last": 1})
	}()
	last := event.Sequence(0)
	for i := range n {
		m := p.read()
		require.EqualValues(t, i, m.ID)
		var r struct{ Seq event.Sequence }
		require.NoError(t, json.Unmarshal(m.Result, &r), "%v", m)
		require.Greater(t, r.Seq, last)
		last = r.Seq
	}
	m := p.read() // a query sees what was asked for before it
	require.Contains(t, string(m.Result), fmt.Sprintf(`{"n":%d}`, n-1))
	require.NoError(t, p.in.Close())
	p.waitEnd()
	checkNumbered(t, dir, "ses", n)
}

// What was written before the input ended is stored, also when the end is a signal, and
// when nobody reads.
func TestRPCInputEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rpcProcess) error{
		"stdin closed": func(p *rpcProcess) error { return p.in.Close() },
		"SIGTERM":      func(p *rpcProcess) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
		"stdout closed": func(p *rpcProcess) error {
			if err := p.out.Close(); err != nil {
				return err
			}
			return p.in.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := rpcDir(t)
			p := startRPC(t, dir)
			p.ask("initialize", map[string]any{}) // from here on a signal is heard
			for i := range 500 {
				p.send(i, "append", numbered("ses", i))
			}
			require.NoError(t, end(p))
			p.waitEnd()
			checkNumbered(t, dir, "ses", 500)
		})
	}
}

// An input that ends before the log is even open.
func TestRPCInputEndsAtOnce(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startRPC(t, dir)
	for i := range 20 {
		p.send(i, "append", numbered("ses", i))
	}
	require.NoError(t, p.in.Close())
	p.waitEnd()
	checkNumbered(t, dir, "ses", 20)
}

// Nobody reads the output, which is far more than a pipe holds: appends go on, and a
// subscription loses nothing by it.
func TestRPCNobodyReads(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	host, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, host.Close()) }()
	p := startRPC(t, dir)
	p.send("s", "subscribe", map[string]any{"after": 0})
	n := longtest.Pick(1500, 3000)
	for i := range n {
		p.send(i, "append", numbered("ses", i))
	}
	patience, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // with the race detector, on a busy machine
	defer cancel()
	for r, err := range host.Subscribe(patience, event.Filter{}) {
		require.NoError(t, err, "appends wait for a reader of stdout")
		if r.ID == fmt.Sprintf("ses-%d", n-1) {
			break
		}
	}
	p.inOrder(n, func(int, rpcMessage) {}) // now somebody reads
	require.NoError(t, p.in.Close())
	p.waitEnd()
}

// A reader that never reads does not keep the process from ending.
func TestRPCEndsUnread(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startRPC(t, dir)
	n := longtest.Pick(1000, 2000)
	for i := range n {
		p.send(i, "append", numbered("ses", i))
	}
	require.NoError(t, p.in.Close())
	p.waitEnd()
	checkNumbered(t, dir, "ses", n)
}

// The host is killed while appends are on their way: the rpc process takes over.
func TestRPCHostKilled(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	words := &syncBuffer{}
	host := as(t, "dstream", words, nil, "--dir", dir, "serve")
	require.NoError(t, host.Start())
	require.True(t, appears(t, filepath.Join(dir, "durable_stream", "address")), words)
	p := startRPC(t, dir)
	const n = 600
	p.send("s", "subscribe", map[string]any{"after": 0})
	go func() {
		for i := range n {
			p.send(i, "append", numbered("ses", i))
		}
	}()
	p.inOrder(n, func(i int, m rpcMessage) {
		require.Nil(t, m.Error)
		if i == n/2 {
			require.NoError(t, host.Process.Kill())
			_ = host.Wait()
		}
	})
	require.NoError(t, p.in.Close())
	p.waitEnd()
	checkNumbered(t, dir, "ses", n)
}

// A session is killed in the middle; the next one sends again what had no answer, under
// the same ids, and goes on with the subscription from the Sequence it had.
func TestRPCKilledAndResumed(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startRPC(t, dir)
	const n = 400
	p.send("s", "subscribe", map[string]any{"after": 0, "subscription": "mine"})
	for i := range n {
		p.send(i, "append", numbered("ses", i))
	}
	var after event.Sequence
	acked, events := 0, 0
	for events < 100 {
		m := p.read()
		if m.Method == "event" {
			require.Equal(t, fmt.Sprintf("ses-%d", events), m.Params.Event.ID)
			events, after = events+1, m.Params.Seq
		} else if m.ID != "s" {
			acked++
		}
	}
	require.NoError(t, p.cmd.Process.Kill())
	<-p.ended

	p = startRPC(t, dir)
	p.send("s", "subscribe", map[string]any{"after": after, "subscription": "mine"})
	for i := acked; i < n; i++ {
		p.send(i, "append", numbered("ses", i))
	}
	for events < n {
		if m := p.read(); m.Method == "event" {
			require.Equal(t, fmt.Sprintf("ses-%d", events), m.Params.Event.ID)
			require.Equal(t, "mine", m.Params.Subscription)
			events++
		}
	}
	require.NoError(t, p.in.Close())
	p.waitEnd()
	checkNumbered(t, dir, "ses", n)
}

// Another implementation of the protocol talks to ours.
func TestRPCWithAnotherClient(t *testing.T) {
	t.Parallel()
	p := startRPC(t, rpcDir(t))
	got := make(chan string, 10)
	c := jrpc2.NewClient(channel.Line(p.out, p.in), &jrpc2.ClientOptions{OnNotify: func(r *jrpc2.Request) {
		got <- r.Method() + " " + r.ParamString()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := c.Call(ctx, "subscribe", map[string]any{"types": []string{"task.*"}})
	require.NoError(t, err)
	var r struct{ Seq event.Sequence }
	require.NoError(t, c.CallResult(ctx, "append", numbered("ses", 7), &r))
	require.NotZero(t, r.Seq)
	select {
	case note := <-got:
		require.True(t, strings.HasPrefix(note, "event "), note)
		require.Contains(t, note, `"payload":{"n":7}`)
	case <-ctx.Done():
		require.Fail(t, "no event")
	}
	_, err = c.Call(ctx, "append", map[string]any{"event": map[string]any{"type": "x"}})
	var e *jrpc2.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, jrpc2.InvalidParams, e.Code)
	_, err = c.Call(ctx, "shutdown", nil)
	require.NoError(t, err)
	p.waitEnd()
	c.Close()
}

// standsStill reports that all of a process that was sent SIGSTOP has stopped, which on a
// busy machine takes a while.
func standsStill(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	require.NoError(t, err)
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if _, state, _ := strings.Cut(string(stat), ") "); err != nil || !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true // also where there is no /proc
}

// A log that does not answer any more does not keep the process for ever, and what was
// not carried out is said.
func TestRPCGivesUp(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	host := as(t, "dstream", &syncBuffer{}, nil, "--dir", dir, "serve")
	require.NoError(t, host.Start())
	require.True(t, appears(t, filepath.Join(dir, "durable_stream", "address")))
	p := startRPC(t, dir, "--drain", "500ms")
	p.ask("initialize", map[string]any{})
	require.NoError(t, host.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return standsStill(t, host.Process.Pid) }, 10*time.Second, time.Millisecond)
	for i := range 10 {
		p.send(i, "append", numbered("ses", i))
	}
	require.NoError(t, p.in.Close())
	m := p.read()
	require.NotNil(t, m.Error, "%s", m.Result)
	require.Equal(t, "unknown_outcome", m.Error.Data["error"])
	require.ErrorContains(t, p.end(), "exit status 1")
	require.Eventually(t, func() bool { return strings.Contains(p.words.String(), "9 requests were not carried out") }, 5*time.Second, 10*time.Millisecond, "%v", p.words)
}
