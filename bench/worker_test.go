package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/measure"
)

// A worker is another process: this test binary once more, which joins a host and
// does what it is told, one JSON line each way. Its value is the address file.
const workerEnv = "DSTREAM_BENCH_WORKER"

type job struct {
	Do       string        // "ours" and "bare" append; "hear" subscribes
	InFlight int           // of those that append
	For      time.Duration // of those that append
	N        int           // how many events hear waits for
}

// work is the worker's side.
func work(in io.Reader, out io.Writer) error {
	ctx := context.Background()
	c, bare, _, err := measure.Join(ctx, client.Target{AddressFile: os.Getenv(workerEnv)})
	if err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode("ready"); err != nil {
		return err
	}
	for jobs := json.NewDecoder(in); ; {
		var j job
		if err := jobs.Decode(&j); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var m measure.Measured
		switch j.Do {
		case "ours":
			m, err = measure.Turn(ctx, j.For, j.InFlight, measure.Side{Name: "ours", Op: measure.Appender(c)})
		case "bare":
			m, err = measure.Turn(ctx, j.For, j.InFlight, measure.Side{Name: "bare", Op: bare.Append})
		case "hear":
			m, err = hear(ctx, c, j.N, func() error { return answers.Encode("ready") })
		default:
			err = fmt.Errorf("no job %q", j.Do)
		}
		if err == nil {
			err = answers.Encode(m)
		}
		if err != nil {
			return err
		}
	}
}

// hear measures how long n events took from the beginning of their append, which their
// payloads tell, to its handler.
func hear(ctx context.Context, c *client.Client, n int, ready func() error) (measure.Measured, error) {
	m := measure.Measured{Name: "heard"}
	at, err := c.Position(ctx)
	if err != nil {
		return m, err
	}
	if err := ready(); err != nil {
		return m, err
	}
	for r, err := range c.Subscribe(ctx, event.Filter{After: at, Limit: n}) {
		if err != nil {
			return m, err
		}
		var p struct{ Sent int64 }
		if err := json.Unmarshal(r.Payload, &p); err != nil {
			return m, err
		}
		m.Times = append(m.Times, time.Duration(time.Now().UnixNano()-p.Sent))
		m.Count++
	}
	return m, nil
}

// worker is the parent's side.
type worker struct {
	in  *json.Encoder
	out *json.Decoder
}

func startWorker(b testing.TB, h *measure.Host) *worker {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+broker.AddressPath(h.Dir))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		stdin.Close()
		require.NoError(b, cmd.Wait())
	})
	w := &worker{json.NewEncoder(stdin), json.NewDecoder(bufio.NewReader(stdout))}
	w.ready(b)
	return w
}

func (w *worker) ready(b testing.TB) {
	b.Helper()
	var word string
	require.NoError(b, w.out.Decode(&word))
	require.Equal(b, "ready", word)
}

func (w *worker) begin(b testing.TB, j job) {
	b.Helper()
	require.NoError(b, w.in.Encode(j))
}

func (w *worker) end(b testing.TB) measure.Measured {
	b.Helper()
	var m measure.Measured
	require.NoError(b, w.out.Decode(&m))
	return m
}

// together gives the same job to several workers at once.
func together(b testing.TB, workers []*worker, j job) measure.Measured {
	b.Helper()
	began := time.Now()
	for _, w := range workers {
		w.begin(b, j)
	}
	var mu sync.Mutex
	var all measure.Measured
	var wait sync.WaitGroup
	for _, w := range workers {
		wait.Go(func() {
			m := w.end(b)
			mu.Lock()
			defer mu.Unlock()
			all.Add(m)
		})
	}
	wait.Wait()
	all.Took = time.Since(began)
	return all
}
