package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/longtest"
	"durablestream/internal/measure"
	"durablestream/mirror"
)

// worker is an agent: it opens the log as anybody does, hosting if need be, appends
// its events from the n-th on, and prints each acknowledgement. Its ids tell which
// event it is, so that a worker that was killed goes on where it was.
func worker() {
	ctx := context.Background()
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	number := func(name string) int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			fail(err)
		}
		return n
	}
	who, from, until := os.Getenv("DSTREAM_TEST_N"), number("DSTREAM_TEST_FROM"), number("DSTREAM_TEST_UNTIL")
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: os.Getenv("DSTREAM_TEST_DIR")})
	if err != nil {
		fail(err)
	}
	out := json.NewEncoder(os.Stdout)
	for n := from; n < until; n++ {
		begun := time.Now()
		r, err := d.Append(ctx, event.Event{
			ID: fmt.Sprintf("w%s-%d", who, n), Type: "task.created", StreamID: "p" + who, Actor: "agent/" + who,
			Payload: fmt.Appendf(nil, `{"n":%d}`, n),
		})
		if err != nil {
			fail(fmt.Errorf("worker %s, event %d: %w", who, n, err))
		}
		_ = out.Encode(workerAck{ack{r.ID, r.Seq, n, time.Now().UnixMicro()}, time.Since(begun)})
	}
	if err := d.Close(); err != nil {
		fail(err)
	}
	os.Exit(0)
}

type workerAck struct {
	ack
	Took time.Duration
}

// workers are the processes of one run and what they were told.
type workers struct {
	t     *testing.T
	dir   string
	each  int // events a worker
	words *syncBuffer

	mu   sync.Mutex // guards all below
	acks [][]workerAck
	pids map[int]int // of the running ones, to their number
	done int
	bad  []string
}

// start runs worker i from its first event that is not acknowledged on, and starts
// it again when it was killed.
func (w *workers) start(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cmd := as(w.t, "worker", w.words, []string{
		"DSTREAM_TEST_DIR=" + w.dir, "DSTREAM_TEST_N=" + strconv.Itoa(i),
		"DSTREAM_TEST_FROM=" + strconv.Itoa(len(w.acks[i])), "DSTREAM_TEST_UNTIL=" + strconv.Itoa(w.each),
	})
	out, err := cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, cmd.Start())
	w.pids[cmd.Process.Pid] = i
	go w.follow(i, cmd, bufio.NewScanner(out))
}

func (w *workers) follow(i int, cmd *exec.Cmd, lines *bufio.Scanner) {
	for lines.Scan() {
		var a workerAck
		if json.Unmarshal(lines.Bytes(), &a) == nil {
			w.mu.Lock()
			w.acks[i] = append(w.acks[i], a)
			w.mu.Unlock()
		}
	}
	err := cmd.Wait()
	w.mu.Lock()
	delete(w.pids, cmd.Process.Pid)
	killed := err != nil && cmd.ProcessState.ExitCode() == -1
	switch {
	case err == nil:
		w.done++
	case !killed:
		w.bad = append(w.bad, err.Error())
	}
	w.mu.Unlock()
	if killed {
		w.start(i)
	}
}

func (w *workers) look(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *workers) total() (n int) {
	w.look(func() {
		for _, a := range w.acks {
			n += len(a)
		}
	})
	return n
}

// killHost kills whichever worker hosts, and gives the moment.
func (w *workers) killHost() time.Time {
	w.t.Helper()
	var at time.Time
	require.Eventually(w.t, func() bool {
		a, err := address.Read(broker.AddressPath(filepath.Join(w.dir, durablestream.HostDir)))
		if err != nil {
			return false
		}
		running := false
		w.look(func() { _, running = w.pids[a.PID] })
		p, err := os.FindProcess(a.PID)
		if err != nil || !running {
			return false // a stale address: another one is about to take over
		}
		at = time.Now()
		return p.Kill() == nil
	}, 20*time.Second, time.Millisecond, "nobody hosts; what the workers said:\n%s", w.words)
	return at
}

// TestManyWorkers runs eight processes that may all host, and kills the host of the
// moment again and again: everything acknowledged is there once, in order, in the
// log and in the mirror, and no append returned an error. DSTREAM_KILL_ROUNDS sets
// how often; 5 by default. DSTREAM_FIGURES runs it without kills as well.
func TestManyWorkers(t *testing.T) {
	kills := 5
	if s := os.Getenv("DSTREAM_KILL_ROUNDS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	t.Run("killed", func(t *testing.T) { manyWorkers(t, kills) })
	t.Run("undisturbed", func(t *testing.T) { manyWorkers(t, 0) })
}

func manyWorkers(t *testing.T, kills int) {
	const processes = 8
	w := &workers{
		t: t, dir: filepath.Join(t.TempDir(), ".opencode"), each: longtest.Pick(200, 500) * max(1, kills/5),
		words: &syncBuffer{}, acks: make([][]workerAck, processes), pids: map[int]int{},
	}
	begun := time.Now()
	for i := range processes {
		w.start(i)
	}
	all := processes * w.each
	reached := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return w.total() >= n }, 60*time.Second, time.Millisecond,
			"nothing is acknowledged any more; what the workers said:\n%s", w.words)
	}
	var killed []time.Time
	for i := range kills { // spread evenly over the run
		reached(1 + i*all*9/10/kills)
		killed = append(killed, w.killHost())
	}
	require.Eventually(t, func() bool {
		ended := false
		w.look(func() { ended = w.done+len(w.bad) == processes })
		return ended
	}, 120*time.Second, 5*time.Millisecond, "%d of %d acknowledged; what the workers said:\n%s", w.total(), all, w.words)
	elapsed := time.Since(begun)
	require.Empty(t, w.bad, "what the workers said:\n%s", w.words)
	w.check()

	var took []time.Duration
	var times []int64
	for _, acks := range w.acks {
		for _, a := range acks {
			took = append(took, a.Took)
			times = append(times, a.At)
		}
	}
	slices.Sort(times)
	first, last := time.UnixMicro(times[0]), time.UnixMicro(times[len(times)-1])
	t.Logf("figure | %d processes, %d events each, %d kills | %.0f appends/s in total, p50 %v, p99 %v, max %v; all in %v",
		processes, w.each, kills, float64(all)/last.Sub(first).Seconds(), measure.Quantile(took, 0.5), measure.Quantile(took, 0.99), measure.Quantile(took, 1), elapsed.Round(time.Millisecond))
	if kills == 0 {
		return
	}
	var gaps []time.Duration
	for _, at := range killed {
		// The first acknowledgement that was not on its way when the host died: of
		// another life of the log.
		i, _ := slices.BinarySearch(times, at.Add(5*time.Millisecond).UnixMicro())
		if i < len(times) {
			gaps = append(gaps, time.UnixMicro(times[i]).Sub(at))
		}
	}
	t.Logf("figure | first acknowledgement after a kill, %d kills | p50 %v, max %v", len(gaps), measure.Quantile(gaps, 0.5), measure.Quantile(gaps, 1))
}

// check compares what was acknowledged with the log and the mirror.
func (w *workers) check() {
	t := w.t
	t.Helper()
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: w.dir, Command: durablestream.Command{NoMirror: true}})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	next := map[string]int{}
	at := map[string]event.Sequence{}
	for r, err := range d.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("w%s-%d", r.StreamID[1:], next[r.StreamID]), r.ID, "at %d", r.Seq)
		next[r.StreamID]++
		at[r.ID] = r.Seq
	}
	for i, acks := range w.acks {
		require.Len(t, acks, w.each)
		for j, a := range acks {
			require.Equal(t, j, a.N)
			require.Equal(t, at[a.ID], a.Seq, "worker %d, event %d", i, j)
		}
	}
	require.Len(t, at, len(w.acks)*w.each)
	report, err := mirror.Verify(t.Context(), mirror.Config{Client: d.Client(), Dir: w.dir})
	require.NoError(t, err)
	require.NoError(t, report.Problem)
	require.EqualValues(t, len(at), report.Lines)
}
