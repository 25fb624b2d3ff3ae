package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/internal/faults"
)

// A hole that the mirror has not passed: the host goes on, the mirror stops there, readers
// are told, and the repair makes all well.
func TestServeWithAHole(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := command(t, dir, "query")
	path := durablestream.MirrorPath(dir)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	n := &faults.Node{Name: "host", Dir: dir}
	p, err := n.Find(20)
	require.NoError(t, err)
	require.NoError(t, p.Flip(p.Length/2))
	require.NoError(t, os.Truncate(path, int64(bytes.Index(whole, []byte("\n{\"seq\":11,")))+1))

	serve, _, words := background(t, dir, "serve")
	says(t, words, "hosts the log of")
	command(t, dir, "append", "task.created", "--stream", "many", "--actor", "a")
	says(t, words, "the mirror has stopped: mirror: the Log is damaged: it holds nothing between seq 19 and 21")
	require.Eventually(t, func() bool { _, out, _ := dstream(t, "--dir", dir, "status"); return strings.Contains(out, alarmWords) }, 20*time.Second, 100*time.Millisecond)
	for _, read := range [][]string{{"query"}, {"tail", "--from", "start"}} {
		status, _, said := dstream(t, append([]string{"--dir", dir}, read...)...)
		require.Equal(t, exitFailed, status, "%v", read)
		require.Contains(t, said, "position 20 cannot be read", "%v", read)
	}
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "1 corrected")
	_ = serve.Wait()
	wellAgain(t, dir)
	serve, _, words = background(t, dir, "serve")
	says(t, words, "hosts the log of")
	require.True(t, strings.HasPrefix(command(t, dir, "query"), was))
	require.Eventually(t, func() bool { status, _, _ := dstream(t, "--dir", dir, "mirror", "verify"); return status == 0 }, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, serve.Process.Signal(syscall.SIGTERM))
	require.NoError(t, serve.Wait())
}

const alarmWords = "the mirror has stopped: mirror: the Log is damaged: it holds nothing between seq 19 and 21"

// The mirror waits at a hole in the log, and goes on when it was mended.
func TestMirrorGoesOn(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	require.NoError(t, os.Remove(durablestream.MirrorPath(dir)))
	n := &faults.Node{Name: "host", Dir: dir}
	p, err := n.Find(20)
	require.NoError(t, err)
	require.NoError(t, p.Flip(p.Length/2))
	serve, _, words := background(t, dir, "serve", "--verbose")
	says(t, words, "the mirror has stopped")
	require.NoError(t, p.Flip(p.Length/2))
	says(t, words, "the log was mended, and the mirror goes on")
	require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 30 lines")
	require.Eventually(t, func() bool { status, _, _ := dstream(t, "--dir", dir, "status"); return status == 0 }, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, serve.Process.Signal(syscall.SIGTERM))
	require.NoError(t, serve.Wait())
}
