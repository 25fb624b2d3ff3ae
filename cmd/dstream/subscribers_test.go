package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/longtest"
)

// subscriber is a process that prints the Sequence of each event that it is brought,
// until its standard input ends. With DSTREAM_TEST_PAUSE it stops reading after the
// first event, until there is a line on its standard input.
func subscriber() {
	ctx, cancel := context.WithCancel(context.Background())
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, "subscriber:", err)
		os.Exit(1)
	}
	var f event.Filter
	if err := json.Unmarshal([]byte(os.Getenv("DSTREAM_TEST_FILTER")), &f); err != nil {
		fail(err)
	}
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: os.Getenv("DSTREAM_TEST_DIR"), JoinOnly: true})
	if err != nil {
		fail(err)
	}
	goOn := make(chan struct{})
	go func() {
		in := bufio.NewScanner(os.Stdin)
		if in.Scan() {
			close(goOn)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	paused := os.Getenv("DSTREAM_TEST_PAUSE") != ""
	for r, err := range d.Subscribe(ctx, f) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			fail(err)
		}
		fmt.Println(r.Seq)
		if paused {
			<-goOn
			paused = false
		}
	}
	if err := d.Close(); err != nil {
		fail(err)
	}
	os.Exit(0)
}

// lines are what a process prints, as it comes.
type lines struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu   sync.Mutex // guards got
	got  []string
	read sync.WaitGroup
}

func linesOf(t *testing.T, cmd *exec.Cmd) *lines {
	t.Helper()
	l := &lines{cmd: cmd}
	var err error
	l.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	l.read.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			l.mu.Lock()
			l.got = append(l.got, s.Text())
			l.mu.Unlock()
		}
	})
	return l
}

func (l *lines) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.got)
}

// end closes the process's standard input, waits for it, and gives all its lines.
func (l *lines) end(t *testing.T, words *syncBuffer) []string {
	t.Helper()
	require.NoError(t, l.in.Close())
	l.read.Wait()
	require.NoError(t, l.cmd.Wait(), "%s", words)
	return l.got
}

// subscription is a filter, and the same said without it.
type subscription struct {
	name   string
	filter event.Filter
	wants  func(stream, typ string) bool
}

// TestSubscribersAcrossProcesses has processes that subscribe while others append
// and hosts are killed: those that read along, one that falls behind, one that is
// stopped during a take-over, and one that joins late each see every event that
// matches once, in order.
func TestSubscribersAcrossProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".opencode")
	words := &syncBuffer{}
	host, _, said := background(t, dir, "serve")
	says(t, said, "hosts the log of")
	next, _, nextSaid := background(t, dir, "serve")
	says(t, nextSaid, "standing by: process")
	takeOver := func() {
		t.Helper()
		require.NoError(t, host.Process.Kill())
		_ = host.Wait()
		says(t, nextSaid, "this process hosts now")
		host = next
		next, _, nextSaid = background(t, dir, "serve")
		says(t, nextSaid, "standing by: process")
	}

	types := []string{"task.created", "checkpoint.viewed", "ledger.note", "ledger.handoff.seen", "agent.tool.call.done"}
	var appenders []*lines
	for i := range 3 {
		appenders = append(appenders, linesOf(t, as(t, "appender", words, []string{
			"DSTREAM_TEST_DIR=" + dir, "DSTREAM_TEST_N=" + strconv.Itoa(i),
			"DSTREAM_TEST_TYPES=" + strings.Join(types, " "),
		})))
	}
	more := func(n int) { // waits for so many acknowledgements
		t.Helper()
		total := func() (n int) {
			for _, a := range appenders {
				n += a.len()
			}
			return n
		}
		start := total()
		require.Eventually(t, func() bool { return total() >= start+n }, time.Minute, 5*time.Millisecond, "nothing is acknowledged any more: %v", words)
	}

	type reader struct {
		*lines
		what string
		of   subscription
	}
	start := func(what string, env ...string) (rs []reader) {
		t.Helper()
		for _, s := range []subscription{
			{"checkpoint.*", event.Filter{Types: []string{"checkpoint.*"}}, func(_, typ string) bool { return typ == "checkpoint.viewed" }},
			{"ledger.>", event.Filter{Types: []string{"ledger.>"}}, func(_, typ string) bool { return strings.HasPrefix(typ, "ledger.") }},
			{"stream p1", event.Filter{StreamID: "p1"}, func(stream, _ string) bool { return stream == "p1" }},
			{"all", event.Filter{}, func(_, _ string) bool { return true }},
		} {
			b, err := json.Marshal(s.filter)
			require.NoError(t, err)
			rs = append(rs, reader{linesOf(t, as(t, "subscriber", words,
				append(env, "DSTREAM_TEST_DIR="+dir, "DSTREAM_TEST_FILTER="+string(b)))), s.name + ", " + what, s})
		}
		return rs
	}
	begun := func(rs []reader) {
		t.Helper()
		for _, r := range rs {
			require.Eventually(t, func() bool { return r.len() > 0 }, time.Minute, 5*time.Millisecond, "%s reads nothing: %v", r.what, words)
		}
	}
	along := start("reads along")
	behind := start("falls behind", "DSTREAM_TEST_PAUSE=1")
	away := start("is stopped")
	begun(along)
	begun(behind)
	begun(away)

	for _, r := range away {
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	}
	takeOver()
	more(longtest.Pick(750, 3000))
	for _, r := range away {
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGCONT))
	}
	late := start("joins late")
	more(longtest.Pick(750, 3000))
	for _, r := range behind {
		require.Equal(t, 1, r.len(), "%s: it does not fall behind", r.what)
		_, err := io.WriteString(r.in, "go on\n")
		require.NoError(t, err)
	}
	begun(late)
	takeOver() // while some of them catch up
	more(longtest.Pick(250, 1000))

	acks := make([][]ack, len(appenders))
	for i, a := range appenders {
		for _, line := range a.end(t, words) {
			var k ack
			require.NoError(t, json.Unmarshal([]byte(line), &k))
			acks[i] = append(acks[i], k)
		}
	}
	due := func(s subscription) (want []string) { // by what the appenders were told
		var seqs []event.Sequence
		for i := range acks {
			for _, a := range acks[i] {
				if s.wants("p"+strconv.Itoa(i), types[a.N%len(types)]) {
					seqs = append(seqs, a.Seq)
				}
			}
		}
		slices.Sort(seqs)
		for _, seq := range seqs {
			want = append(want, seq.String())
		}
		return want
	}
	for _, rs := range [][]reader{along, behind, away, late} {
		for _, r := range rs {
			want := due(r.of)
			require.Eventually(t, func() bool { return r.len() >= len(want) }, time.Minute, 5*time.Millisecond,
				"%s: has %d of %d; %v", r.what, r.len(), len(want), words)
			if got := r.end(t, words); !slices.Equal(got, want) {
				t.Errorf("%s: %d events, of which there are %d:\n%s\nshould be\n%s", r.what, len(got), len(want), got, want)
			}
			t.Logf("%s: %d events, each once, in order", r.what, len(want))
		}
	}
	for _, p := range []*exec.Cmd{next, host} {
		require.NoError(t, p.Process.Signal(os.Interrupt))
		require.NoError(t, p.Wait())
	}
	checkAcks(t, dir, acks)
}
