package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/measure"
)

func TestBenchMeasuresAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, errs strings.Builder
	require.Equal(t, exitDone, run([]string{"--dir", filepath.Join(dir, ".opencode"), "--json", "bench", "--for", "200ms"}, strings.NewReader(""), &out, &errs), errs.String())
	var r measure.Report
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	for _, v := range []float64{r.Append.P50, r.Bare.P50, r.Fsync.P50, r.Heard.P50, r.Batch.PerSecond, r.CatchUp.PerSecond, r.Start.P50} {
		require.Positive(t, v, out.String())
	}
	require.Len(t, r.InFlight, 4)
	require.Equal(t, 1, r.InFlight[0].N)
	for _, f := range r.InFlight {
		require.Positive(t, f.PerSecond, out.String())
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// It measures in --dir, which may be a disk of its own, and above it only where it is not
// there yet.
func TestBenchMeasuresInDir(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	for dir, want := range map[string]string{
		there: there, filepath.Join(there, ".opencode"): there, filepath.Join(there, "a", "b", ".opencode"): there,
	} {
		got, err := nearest(dir)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	file := filepath.Join(there, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var out, errs strings.Builder
	require.Equal(t, exitFailed, run([]string{"--dir", filepath.Join(file, "x"), "bench"}, strings.NewReader(""), &out, &errs))
	require.Contains(t, errs.String(), "not a directory")
}

func TestBenchLeavesNothingWhenItIsEnded(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd, _, words := background(t, dir, "bench", "--for", "1m")
			require.Eventually(t, func() bool {
				plain, err := filepath.Glob(filepath.Join(dir, ".dstream-bench-*", "plain"))
				return err == nil && len(plain) == 1
			}, 20*time.Second, 2*time.Millisecond, "it does not begin in --dir:\n%v", words)
			require.NoError(t, cmd.Process.Signal(sig))
			require.Error(t, cmd.Wait())
			require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), words.String())
			require.Contains(t, words.String(), "interrupted: nothing was left behind")
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"bench --server nats://x:1", "it takes no --server"},
		{"bench --for 1ms", "must be 100ms to 1h"},
		{"bench now", "takes flags only"},
	} {
		var errs strings.Builder
		require.Equal(t, exitUsage, run(strings.Fields(c.args), strings.NewReader(""), &strings.Builder{}, &errs))
		require.Contains(t, errs.String(), c.want)
	}
}
