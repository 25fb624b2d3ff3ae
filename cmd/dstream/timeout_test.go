package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
)

// busyLog is a directory whose log somebody holds who has not begun to host, until release.
func busyLog(t *testing.T) (dir string, release func() error) {
	t.Helper()
	dir = t.TempDir()
	host := filepath.Join(dir, durablestream.HostDir)
	require.NoError(t, os.MkdirAll(host, 0o700))
	release, err := broker.Hold(host)
	require.NoError(t, err)
	return dir, release
}

// --timeout bounds a command as a whole, opening the log included.
func TestTimeoutCountsTheOpening(t *testing.T) {
	t.Parallel()
	dir, release := busyLog(t)
	defer func() { require.NoError(t, release()) }()
	file := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(`{"type":"task.created","stream_id":"s","actor":"a","payload":{}}`+"\n"), 0o600))
	for args, say := range map[string]string{
		"append task.created --stream s --actor a --timeout 200ms": "no host to join",
		"append --jsonl " + file + " --timeout 200ms":              "no host to join",
		"checkpoint wait c --timeout 200ms":                        "was not decided within 200ms: the log was not open by then",
	} {
		var out, words bytes.Buffer
		begun := time.Now()
		got := run(append([]string{"--dir", dir}, strings.Fields(args)...), strings.NewReader(""), &out, &words)
		require.Equal(t, exitFailed, got, "%s: %s", args, &words)
		require.Contains(t, words.String(), say, args)
		require.Less(t, time.Since(begun), openWait, args)
	}
}

// A command whose --timeout is longer than others wait for a host goes on waiting.
func TestTimeoutIsNotCutShort(t *testing.T) {
	t.Parallel()
	dir, release := busyLog(t)
	var out, words syncBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a", "--timeout", "5m"}, strings.NewReader(""), &out, &words)
	}()
	select { // it waits
	case got := <-ended:
		require.Fail(t, "it has ended", "%d: %s", got, words.String())
	case <-time.After(openWait + 2*time.Second):
	}
	require.Contains(t, words.String(), "waiting for the log")
	require.NoError(t, release())
	require.Equal(t, exitDone, <-ended, words.String())
	require.Contains(t, out.String(), `"seq":1`)
}
