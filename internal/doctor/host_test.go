package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/paths"
)

// TestMain makes this test binary stand in for a host that these tests end.
func TestMain(m *testing.M) {
	dir := os.Getenv("DOCTOR_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := host(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// host hosts the log in dir, with three events, until it is told to end.
func host(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir})
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "s", Actor: "a"}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-ctx.Done()
	return d.Close()
}

// hosted is a log whose host is another process.
func hosted(t *testing.T) (dir string, host *exec.Cmd) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), ".opencode")
	host = exec.Command(os.Args[0])
	host.Env = append(os.Environ(), "DOCTOR_TEST_DIR="+dir)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	t.Cleanup(func() {
		if host.ProcessState == nil {
			_ = host.Process.Kill()
			_ = host.Wait() // killed
		}
	})
	ready, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", ready)
	return dir, host
}

func config(dir string) Config {
	return Config{Dir: dir, Log: durablestream.Config{Dir: dir}, Wait: 10 * time.Second, Words: io.Discard, Say: func(string, ...any) {}}
}

// A host that was told to end, and takes its time, was told.
func TestHostStillEnds(t *testing.T) {
	t.Parallel()
	dir, process := hosted(t)
	require.NoError(t, process.Process.Signal(syscall.SIGTERM))
	require.NoError(t, process.Wait())
	host := filepath.Join(dir, durablestream.HostDir)
	if _, err := exec.LookPath("flock"); err != nil || runtime.GOOS != "linux" {
		t.Skip("flock(1) of util-linux is not there, or /proc is not")
	}
	told := filepath.Join(t.TempDir(), "told")
	child := exec.Command("flock", "--no-fork", filepath.Join(host, broker.StoreDir), "sh", "-c", `trap 'echo >"$0"' TERM; echo; while :; do sleep 0.02; done`, told)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	_, err = out.Read(make([]byte, 1)) // it has the lock
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	d := &Examination{cfg: config(dir), host: host, running: child.Process.Pid}
	d.add(Finding{Name: FoundMirror, fix: d.rewriteMirror})
	require.NoError(t, d.Repair(ctx, func(*Finding) (bool, error) { return true, nil }))
	require.Eventually(t, func() bool { return paths.Exists(told) }, 10*time.Second, time.Millisecond, "it was told to end")
	f := d.Found.Findings[0]
	require.Contains(t, f.Outcome, "nothing of the log was changed: the host, process ")
	require.Contains(t, f.Outcome, "was told to end (SIGTERM) and has not ended yet")
}

// A host of which only the directory is known ends when it is asked, wherever it runs.
func TestTheHostIsAskedToEnd(t *testing.T) {
	t.Parallel()
	dir, process := hosted(t)
	d := &Examination{cfg: config(dir), host: filepath.Join(dir, durablestream.HostDir), held: true, reached: true}
	release, err := d.stopHost(t.Context())
	require.NoError(t, err)
	require.NoError(t, process.Wait(), "it ended in an orderly way")
	require.True(t, d.ended)
	require.NoError(t, release())
	well, err := Examine(t.Context(), config(dir))
	require.NoError(t, err)
	require.Empty(t, well.Found.Findings)
}
