package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
	"durablestream/internal/measure"
)

// All of these are one measurement each and want -benchtime 1x: how long it takes is
// fixed, and b.N has no part in it. -short measures less, for comparisons.
//
//	cd bench && go test -run '^$' -bench . -benchtime 1x .
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := work(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if scratch.dir != "" {
		os.RemoveAll(scratch.dir)
	}
	os.Exit(code)
}

// scratch is what several benchmarks share: it is made once, and ends with the run.
var scratch struct {
	sync.Mutex
	dir  string
	made map[string]string
}

// shared gives a directory that build has filled, once for all benchmarks.
func shared(b testing.TB, name string, build func(dir string)) string {
	b.Helper()
	scratch.Lock()
	defer scratch.Unlock()
	if scratch.dir == "" {
		dir, err := os.MkdirTemp("", "dstream-bench-")
		require.NoError(b, err)
		scratch.dir, scratch.made = dir, map[string]string{}
	}
	if scratch.made[name] == "" {
		dir := filepath.Join(scratch.dir, name)
		require.NoError(b, os.MkdirAll(dir, 0o700))
		build(dir)
		scratch.made[name] = dir
	}
	return scratch.made[name]
}

// program is the dstream of this tree.
func program(b testing.TB) string {
	b.Helper()
	return filepath.Join(shared(b, "bin", func(dir string) {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "dstream"), "./cmd/dstream")
		cmd.Dir = ".." // another module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, "%s", out)
	}), "dstream")
}

func host(b testing.TB) *measure.Host {
	b.Helper()
	h, err := measure.Start(b.Context(), filepath.Join(b.TempDir(), "durable_stream"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, h.Stop(context.Background())) })
	return h
}

// ours appends one event after the other.
func ours(h *measure.Host) measure.Side {
	return measure.Side{Name: "ours", Op: measure.Appender(h.Client)}
}

func bare(h *measure.Host) measure.Side { return measure.Side{Name: "bare", Op: h.Bare.Append} }

// rounds is n, or less with -short.
func rounds(n int) int {
	return longtest.Pick(max(n/4, 2), n)
}

// report gives each side's figures, and the p50 of ours, the first, as a part of theirs.
func report(b *testing.B, all []measure.Measured) {
	b.Helper()
	for _, m := range all {
		b.ReportMetric(us(m.P(0.5)), m.Name+"-p50-µs")
		if len(m.Times) >= 100 {
			b.ReportMetric(us(m.P(0.99)), m.Name+"-p99-µs")
		}
		if m.Took > 0 {
			b.ReportMetric(m.Rate(), m.Name+"/s")
		}
	}
	if ours := all[0]; ours.Name == "ours" { // what benchstat can compare on a machine that is not quiet
		for _, m := range all[1:] {
			b.ReportMetric(us(ours.P(0.5))/us(m.P(0.5)), "p50-of-"+m.Name)
		}
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// serving is a `dstream serve` process.
type serving struct {
	name  string // of a cluster's node
	cmd   *exec.Cmd
	began time.Time
	boot  time.Duration // until it hosted
	said  *words
	once  sync.Once
}

// words is what a process writes, readable meanwhile.
type words struct {
	mu    sync.Mutex // guards text
	text  bytes.Buffer
	heard chan struct{} // gets one when something new is there
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.heard <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// serve starts a host as its user would, and returns when it hosts.
func serve(b testing.TB, dir string, args ...string) *serving {
	b.Helper()
	s := startServe(b, dir, args...)
	s.hosts(b)
	return s
}

// startServe only starts it.
func startServe(b testing.TB, dir string, args ...string) *serving {
	b.Helper()
	s := &serving{began: time.Now(), said: &words{heard: make(chan struct{}, 1)}}
	s.cmd = exec.Command(program(b), append([]string{"--dir", dir, "serve"}, args...)...)
	s.cmd.Stderr = s.said
	require.NoError(b, s.cmd.Start())
	b.Cleanup(func() { s.stop(b) })
	return s
}

// hosts waits until it does.
func (s *serving) hosts(b testing.TB) {
	b.Helper()
	for deadline := time.After(time.Minute); !strings.Contains(s.said.String(), "hosts the log of"); {
		select {
		case <-s.said.heard:
		case <-deadline:
			require.Fail(b, "serve does not host", "%s", s.said.String())
		}
	}
	s.boot = time.Since(s.began)
}

func (s *serving) stop(b testing.TB) {
	s.once.Do(func() {
		require.NoError(b, s.cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(b, s.cmd.Wait(), "%s", s.said.String())
	})
}

// resident is what a process holds in memory, in MB.
func (s *serving) resident(b testing.TB) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		b.Logf("no resident memory: %v", err) // not on Linux
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(b, err)
			return float64(kb) / 1024
		}
	}
	require.Fail(b, "no VmRSS")
	return 0
}
