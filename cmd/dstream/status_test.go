package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
)

var hostPID = regexp.MustCompile(`pid (\d+)\)`)

// A host that is stopped by a signal answers nobody. status says so at once, with
// its pid and what to do, and all is well again when it goes on.
func TestStatusOfAStoppedHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	status, out, words := dstream(t, "--dir", dir, "status")
	require.Zero(t, status, out+words)

	pid := strconv.Itoa(cmd.Process.Pid)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGCONT) })
	require.Eventually(t, func() bool { return address.Stopped(cmd.Process.Pid) }, 5*time.Second, time.Millisecond)
	began := time.Now()
	status, out, words = dstream(t, "--dir", dir, "status")
	require.Less(t, time.Since(began), time.Second)
	require.Equal(t, exitFailed, status)
	require.Empty(t, words)
	require.Contains(t, out, "ALARM")
	require.Contains(t, out, "process "+pid+", is stopped")
	require.Contains(t, out, "kill -CONT "+pid)
	require.NotContains(t, out, "position")

	status, out, _ = dstream(t, "--dir", dir, "status", "--json")
	require.Equal(t, exitFailed, status)
	var a statusAnswer
	require.NoError(t, json.Unmarshal([]byte(out), &a))
	require.True(t, a.Stopped)
	require.True(t, a.Running)
	require.Equal(t, alarmStopped, a.Alarms[0].Name)
	require.Equal(t, cmd.Process.Pid, a.Host.PID)

	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool {
		status, out, words = dstream(t, "--dir", dir, "status")
		return status == exitDone
	}, 5*time.Second, 10*time.Millisecond, "%s%s", out, words)
}

// A line is broken between words, below where they began, and never inside one.
func TestSheetWraps(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &sheet{out: &out, width: 30}
	s.line("ALARM", "the mirror %s: see above", "/a/path/that/is/longer/than/the/line")
	s.line("alarms", "none")
	require.NoError(t, s.err)
	require.Equal(t, `ALARM      the mirror
           /a/path/that/is/longer/than/the/line:
           see above
alarms     none
`, out.String())
}
