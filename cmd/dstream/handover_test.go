package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
)

// command runs one dstream command to its end and gives what it printed.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	words := &syncBuffer{}
	cmd := as(t, "dstream", words, nil, append([]string{"--dir", dir}, args...)...)
	out, err := cmd.Output()
	require.NoError(t, err, "%v: %s", args, words)
	return string(out)
}

// background starts one dstream command; what it prints is in the buffers.
func background(t *testing.T, dir string, args ...string) (cmd *exec.Cmd, out, words *syncBuffer) {
	t.Helper()
	out, words = &syncBuffer{}, &syncBuffer{}
	cmd = as(t, "dstream", words, nil, append([]string{"--dir", dir}, args...)...)
	cmd.Stdout = out
	require.NoError(t, cmd.Start())
	return cmd, out, words
}

func says(t *testing.T, b *syncBuffer, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(b.String(), text) }, 20*time.Second, 2*time.Millisecond,
		"%q does not come; what came:\n%v", text, b)
}

// TestWaitersOutliveTheHost ends the host in every way while one process follows the
// log and another one waits for a decision: they go on, whoever hosts.
func TestWaitersOutliveTheHost(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name    string
		signal  syscall.Signal
		standBy bool
	}{
		{"killed, a serve stands by", syscall.SIGKILL, true},
		{"killed, nobody stands by", syscall.SIGKILL, false},
		{"terminated, a serve stands by", syscall.SIGTERM, true},
		{"interrupted, nobody stands by", syscall.SIGINT, false},
		{"aborted, nobody stands by", syscall.SIGABRT, false},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), ".opencode")
			host, _, words := background(t, dir, "serve")
			says(t, words, "hosts the log of")
			first := command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
			id := strings.TrimSpace(command(t, dir, "checkpoint", "request", "--stream", "s", "--actor", "agent/x",
				"--decision-point", "Deploy?", "--option", "yes", "--option", "no"))
			tail, followed, _ := background(t, dir, "tail", "--from", "start")
			says(t, followed, "checkpoint.requested")
			wait, decided, said := background(t, dir, "checkpoint", "wait", id, "--timeout", "60s")
			if how.standBy {
				_, _, standing := background(t, dir, "serve")
				says(t, standing, "standing by: process")
			}

			require.NoError(t, host.Process.Signal(how.signal))
			_ = host.Wait()
			last := command(t, dir, "append", "task.completed", "--stream", "s", "--actor", "a")
			command(t, dir, "checkpoint", "approve", id, "--by", "human/h", "--option", "yes")
			require.NoError(t, wait.Wait(), "%s", said)
			require.Contains(t, decided.String(), "yes")
			says(t, followed, "checkpoint.approved")
			require.NoError(t, tail.Process.Signal(syscall.SIGINT))
			require.NoError(t, tail.Wait())

			// The follower saw each event once, in order.
			lines := bytes.Split(bytes.TrimSpace([]byte(followed.String())), []byte("\n"))
			require.Len(t, lines, 4)
			require.Equal(t, strings.TrimSpace(first), string(lines[0]))
			require.Equal(t, strings.TrimSpace(last), string(lines[2]))
			var was event.Sequence
			for _, line := range lines {
				var r struct{ Seq event.Sequence }
				require.NoError(t, json.Unmarshal(line, &r))
				require.Greater(t, r.Seq, was)
				was = r.Seq
			}
			command(t, dir, "mirror", "verify")
		})
	}
}

// TestServeStandsBy reads what a person sees who starts two of them.
func TestServeStandsBy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	first, _, words := background(t, dir, "serve")
	says(t, words, "Ctrl-C stops it")
	second, _, standing := background(t, dir, "serve")
	says(t, standing, "standing by: process ")
	third, _, other := background(t, dir, "serve")
	says(t, other, "standing by: process ")

	require.NoError(t, third.Process.Signal(syscall.SIGINT))
	require.NoError(t, third.Wait())
	says(t, other, "stopped: this process was standing by")

	require.NoError(t, first.Process.Signal(syscall.SIGINT))
	require.NoError(t, first.Wait())
	says(t, standing, "has gone: this process hosts now")
	says(t, standing, "Durable Stream "+durablestream.Version+" hosts the log of "+dir)
	require.Contains(t, command(t, dir, "status"), "alarms     none")
	require.NoError(t, second.Process.Signal(syscall.SIGINT))
	require.NoError(t, second.Wait())
	says(t, standing, "stopped: the mirror has everything")
}
