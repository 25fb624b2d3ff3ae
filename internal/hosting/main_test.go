package hosting_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
)

// TestMain makes this test binary stand in for a host that these tests kill.
func TestMain(m *testing.M) {
	dir := os.Getenv("HOSTING_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := hostUntilStdinEnds(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func hostUntilStdinEnds(dir string) error {
	d, err := durablestream.Open(context.Background(), durablestream.Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return d.Close()
}

// start starts another process that hosts dir, and returns the process's SIGKILL.
func start(t *testing.T, dir string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOSTING_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	}
	t.Cleanup(kill)
	ready, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", ready)
	return kill
}

func openIn(t *testing.T, dir string, change ...func(*durablestream.Config)) *durablestream.DurableStream {
	t.Helper()
	cfg := durablestream.Config{Dir: dir}
	for _, f := range change {
		f(&cfg)
	}
	d, err := durablestream.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func collect(t *testing.T, d *durablestream.DurableStream, f event.Filter) []event.Recorded {
	t.Helper()
	var got []event.Recorded
	for r, err := range d.Query(t.Context(), f) {
		require.NoError(t, err)
		got = append(got, r)
	}
	return got
}
