package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/mirror"
)

// appender is a process that appends until its standard input ends, and prints
// each acknowledgement as one line of JSON. Its events are of DSTREAM_TEST_TYPES in
// turn.
func appender() {
	ctx := context.Background()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: os.Getenv("DSTREAM_TEST_DIR"), JoinOnly: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	out := json.NewEncoder(os.Stdout)
	types := strings.Fields(cmp.Or(os.Getenv("DSTREAM_TEST_TYPES"), "task.created"))
	for n := 0; ; n++ {
		select {
		case <-ended:
			if err := d.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		default:
		}
		r, err := d.Append(ctx, event.Event{
			Type: types[n%len(types)], StreamID: "p" + os.Getenv("DSTREAM_TEST_N"), Actor: "agent/killer",
			Payload: fmt.Appendf(nil, `{"n":%d}`, n),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = out.Encode(ack{r.ID, r.Seq, n, time.Now().UnixMicro()})
	}
}

type ack struct {
	ID  string
	Seq event.Sequence
	N   int
	At  int64 // Unix µs
}

// as starts this test binary as another program. It ends with the test at the
// latest.
func as(t *testing.T, what string, stderr io.Writer, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(standIn(t), args...)
	cmd.Env = append(append(os.Environ(), "DSTREAM_TEST_AS="+what), env...)
	cmd.Stderr = stderr
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	return cmd
}

// syncBuffer may be read while a process writes to it.
type syncBuffer = brokertest.Words

// TestKill kills the host with SIGKILL again and again while four processes
// append: everything acknowledged is there once, in order, in the log and in the
// mirror. DSTREAM_KILL_ROUNDS sets the number of rounds; 15 by default.
func TestKill(t *testing.T) {
	rounds := longtest.Pick(5, 15)
	if s := os.Getenv("DSTREAM_KILL_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, seed))
	t.Logf("%d rounds, seed %d", rounds, seed)

	dir := filepath.Join(t.TempDir(), ".opencode")
	words := &syncBuffer{}
	serve := func() *exec.Cmd {
		cmd := as(t, "dstream", words, nil, "--dir", dir, "serve")
		require.NoError(t, cmd.Start())
		return cmd
	}
	host := serve()

	const appenders = 4
	acks := make([][]ack, appenders)
	var mu sync.Mutex // guards acks
	var stdins []io.Closer
	var procs []*exec.Cmd
	var readers sync.WaitGroup
	for i := range appenders {
		cmd := as(t, "appender", words, []string{"DSTREAM_TEST_DIR=" + dir, "DSTREAM_TEST_N=" + strconv.Itoa(i)})
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		stdins, procs = append(stdins, in), append(procs, cmd)
		readers.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var a ack
				if json.Unmarshal(lines.Bytes(), &a) == nil {
					mu.Lock()
					acks[i] = append(acks[i], a)
					mu.Unlock()
				}
			}
		})
	}
	total := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range acks {
			n += len(a)
		}
		return n
	}
	more := func(n int) { // waits for so many acknowledgements
		t.Helper()
		start := total()
		require.Eventually(t, func() bool { return total() >= start+n }, 30*time.Second, 2*time.Millisecond,
			"nothing is acknowledged any more; what the processes said:\n%v", words)
	}

	for round := range rounds {
		// Kill only a host that has acknowledged something, at a random moment after.
		more(1)
		timer := time.NewTimer(time.Duration(random.Int64N(int64(120 * time.Millisecond))))
		<-timer.C
		require.NoError(t, host.Process.Kill(), "round %d: %s", round, words)
		_ = host.Wait()
		host = serve()
	}
	more(appenders)
	for _, in := range stdins {
		require.NoError(t, in.Close())
	}
	readers.Wait()
	for _, p := range procs {
		require.NoError(t, p.Wait(), words.String())
	}
	require.NoError(t, host.Process.Signal(os.Interrupt))
	require.NoError(t, host.Wait(), words.String())

	checkAcks(t, dir, acks)
}

// checkAcks compares what was acknowledged with the log and with the mirror.
func checkAcks(t *testing.T, dir string, acks [][]ack) {
	t.Helper()
	ctx := t.Context()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir, Command: durablestream.Command{NoMirror: true}})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()

	at := map[string]event.Sequence{}
	next := map[string]int{} // per stream
	for r, err := range d.Query(ctx, event.Filter{}) {
		require.NoError(t, err)
		require.Zero(t, at[r.ID], "stored twice: %s at %d and %d", r.ID, at[r.ID], r.Seq)
		at[r.ID] = r.Seq
		var p struct{ N int }
		require.NoError(t, json.Unmarshal(r.Payload, &p))
		require.Equal(t, next[r.StreamID], p.N, "order within %s at %d", r.StreamID, r.Seq)
		next[r.StreamID]++
	}
	total := 0
	var slowest time.Duration
	for i, as := range acks {
		for j, a := range as {
			require.Equal(t, a.Seq, at[a.ID], "appender %d, event %d", i, a.N)
			require.Equal(t, j, a.N)
			if j > 0 {
				slowest = max(slowest, time.Duration(a.At-as[j-1].At)*time.Microsecond)
			}
		}
		total += len(as)
	}
	require.Equal(t, total, len(at), "events in the log that nobody was told of")
	report, err := mirror.Verify(ctx, mirror.Config{Client: d.Client(), Dir: dir})
	require.NoError(t, err)
	require.NoError(t, report.Problem)
	require.EqualValues(t, total, report.Lines)
	t.Logf("%d acknowledged, 0 lost, 0 twice, mirror equal; longest wait for an acknowledgement %v", total, slowest)
}
