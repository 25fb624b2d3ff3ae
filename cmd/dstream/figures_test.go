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
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/mirror"
)

// TestFigures measures this machine, each figure beside a bare nats.go publish to
// the same broker in the same run, and prints a table. It runs with
// DSTREAM_FIGURES=1 (`make figures`): it is a measurement and not a check.
func TestFigures(t *testing.T) {
	if os.Getenv("DSTREAM_FIGURES") == "" {
		t.Skip("a measurement: make figures")
	}
	bin := filepath.Join(t.TempDir(), "dstream")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir := filepath.Join(t.TempDir(), ".opencode")
	stop, pid := serveFor(t, bin, dir)
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, JoinOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	bare := bareStream(t, d)

	row := func(format string, a ...any) { fmt.Printf("figure | "+format+"\n", a...) }
	row("idle serve, resident | %.1f MB", resident(t, pid))

	payload := []byte(`{"title":"Refactor Auth","note":"` + strings.Repeat("x", 150) + `"}`)
	e := event.Event{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner", Payload: payload}
	body := e.AppendJSON(nil)
	var ours, theirs []time.Duration
	for range 4 { // in turns, so that both see the same noise
		ours = append(ours, timed(1000, func() { _, err = d.Append(t.Context(), e); require.NoError(t, err) })...)
		theirs = append(theirs, timed(1000, func() { _, err = bare.Publish(t.Context(), "bare.x", body); require.NoError(t, err) })...)
	}
	row("append, one at a time | p50 %v p99 %v | bare publish p50 %v p99 %v | ratio of p50 %.2f",
		quantile(ours, 0.5), quantile(ours, 0.99), quantile(theirs, 0.5), quantile(theirs, 0.99),
		float64(quantile(ours, 0.5))/float64(quantile(theirs, 0.5)))

	a := rate(64, 300, func() { _, err := d.Append(t.Context(), e); require.NoError(t, err) })
	b := rate(64, 300, func() { _, err := bare.Publish(t.Context(), "bare.x", body); require.NoError(t, err) })
	row("append, 64 goroutines | %.0f/s | bare publish %.0f/s | ratio %.2f", a, b, a/b)

	events := make([]event.Event, 100_000)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprintf("imported-%d", i), Type: "task.created", StreamID: fmt.Sprintf("s%d", i%100),
			CorrelationID: "c", Actor: "a", Timestamp: int64(i + 1), Payload: payload}
	}
	start := time.Now()
	report, err := d.Import(t.Context(), "figures", events, nil)
	require.NoError(t, err)
	took := time.Since(start)
	start = time.Now()
	_, err = d.Import(t.Context(), "figures", events, nil)
	require.NoError(t, err)
	row("import of %d | %.0f events/s | again, nothing new: %v", report.Stored, float64(report.Stored)/took.Seconds(), time.Since(start).Round(time.Millisecond))

	fresh := filepath.Join(t.TempDir(), "mirror")
	position, err := d.Position(t.Context())
	require.NoError(t, err)
	lines, took := catchUp(t, d, fresh, position)
	row("mirror catch-up | %.0f lines/s (%d lines)", float64(lines)/took.Seconds(), lines)

	append1 := func() {
		out, err := exec.Command(bin, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	row("dstream append as a process, host running | p50 %v", quantile(timed(20, append1), 0.5))

	if testing.Short() {
		stop()
		return
	}
	for have := position; have < 1_000_000; {
		for i := range events {
			events[i].ID = fmt.Sprintf("more-%d-%d", have, i)
		}
		_, err := d.Import(t.Context(), "figures", events, nil)
		require.NoError(t, err)
		have, err = d.Position(t.Context())
		require.NoError(t, err)
	}
	row("serve after it stored 1,000,000 within the duplicate window, resident | %.1f MB", resident(t, pid))
	resumeFigures(t, d, bin, dir, row)
	stop()
	row("dstream append as a process, no host, 1,000,000 stored | p50 %v", quantile(timed(5, append1), 0.5))
	stop, pid = serveFor(t, bin, dir)
	row("serve with 1,000,000 stored, just started, resident | %.1f MB", resident(t, pid))
	stop()

	dir = filepath.Join(t.TempDir(), ".opencode")
	row("dstream append as a process, no host, small log | p50 %v", quantile(timed(20, append1), 0.5))
}

// resumeFigures puts 2,000 events of checkpoints and intents into the log, and
// measures resume beside the original's way: parsing every line.
func resumeFigures(t *testing.T, d *durablestream.DurableStream, bin, dir string, row func(string, ...any)) {
	t.Helper()
	var events []event.Event
	add := func(typ, payload string) {
		events = append(events, event.Event{ID: fmt.Sprintf("matters-%d", len(events)), Type: typ, StreamID: "ses", CorrelationID: "c",
			Actor: "a", Timestamp: 1, Payload: []byte(payload)})
	}
	for i := range 505 {
		add("checkpoint.requested", fmt.Sprintf(`{"id":"cp_%d","decision_point":"?","options":[],"requested_by":"a"}`, i))
		add("agent.spawned", fmt.Sprintf(`{"id":"i_%d"}`, i))
		if i >= 10 {
			add("checkpoint.approved", fmt.Sprintf(`{"checkpoint_id":"cp_%d","approved_by":"b"}`, i))
			add("agent.completed", fmt.Sprintf(`{"intent_id":"i_%d"}`, i))
		}
	}
	_, err := d.Import(t.Context(), "figures", events, nil)
	require.NoError(t, err)
	var out []byte
	took := timed(5, func() {
		out, err = exec.Command(bin, "--dir", dir, "resume", "--json").Output()
		require.NoError(t, err)
	})
	var r struct {
		Pending []any `json:"pending_checkpoints"`
		Active  []any `json:"active_intents"`
		Events  int   `json:"events_replayed"`
	}
	require.NoError(t, json.Unmarshal(out, &r))
	require.Len(t, r.Pending, 10)
	require.Len(t, r.Active, 10)

	start := time.Now()
	lines := 0
	files, err := filepath.Glob(filepath.Join(dir, "durable_stream*.jsonl"))
	require.NoError(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		for s := bufio.NewScanner(f); s.Scan(); lines++ {
			var v map[string]any
			require.NoError(t, json.Unmarshal(s.Bytes(), &v))
		}
		require.NoError(t, f.Close())
	}
	parse := time.Since(start)
	p50 := quantile(took, 0.5)
	row("dstream resume as a process, %d of %d events matter | p50 %v | parsing %d lines %v | %.0f times", len(events), r.Events, p50, lines,
		parse.Round(time.Millisecond), float64(parse)/float64(p50))
}

// serveFor starts a host; stop ends it in order.
func serveFor(t *testing.T, bin, dir string) (stop func(), pid int) {
	t.Helper()
	words := &syncBuffer{}
	cmd := exec.Command(bin, "--dir", dir, "serve")
	cmd.Stderr = words
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(words.String(), "Ctrl-C") }, 30*time.Second, 10*time.Millisecond)
	var once sync.Once
	stop = func() {
		once.Do(func() {
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			require.NoError(t, cmd.Wait(), words.String())
		})
	}
	t.Cleanup(stop)
	return stop, cmd.Process.Pid
}

// bareStream makes a second stream on the same broker, for the neighbour.
func bareStream(t *testing.T, d *durablestream.DurableStream) jetstream.JetStream {
	t.Helper()
	a, err := address.Read(filepath.Join(d.Dir(), durablestream.HostDir, "address"))
	require.NoError(t, err)
	nc, err := nats.Connect(a.URL, nats.Token(a.Token))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BARE", Subjects: []string{"bare.>"}})
	require.NoError(t, err)
	return js
}

// catchUp mirrors the whole log into an empty directory.
func catchUp(t *testing.T, d *durablestream.DurableStream, dir string, until event.Sequence) (uint64, time.Duration) {
	t.Helper()
	reached := make(chan uint64, 1)
	cfg := mirror.Config{Client: d.Client, Dir: dir, MaxBytes: -1, Progress: func(p mirror.Progress) {
		if p.Seq >= until {
			select {
			case reached <- p.Lines:
			default:
			}
		}
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- mirror.Run(ctx, cfg) }()
	lines := <-reached
	took := time.Since(start)
	cancel()
	require.NoError(t, <-done)
	return lines, took
}

func timed(n int, f func()) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		start := time.Now()
		f()
		out[i] = time.Since(start)
	}
	return out
}

func quantile(d []time.Duration, q float64) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[min(int(q*float64(len(d))), len(d)-1)].Round(time.Microsecond)
}

// rate runs f n times in each of so many goroutines.
func rate(goroutines, n int, f func()) float64 {
	var wg sync.WaitGroup
	start := time.Now()
	for range goroutines {
		wg.Go(func() {
			for range n {
				f()
			}
		})
	}
	wg.Wait()
	return float64(goroutines*n) / time.Since(start).Seconds()
}

// resident is VmRSS in MB.
func resident(t *testing.T, pid int) float64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return float64(kb) / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
