package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"durablestream/internal/brokertest"

	"github.com/stretchr/testify/require"
)

// The directory of a running host is removed, and another host begins a new log in its
// place: the first one says so and ends, and never touches what is the other's.
func TestDirectoryTakenAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	first, _, words := background(t, dir, "serve")
	says(t, words, "Ctrl-C stops it")
	for range 30 {
		command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	}
	brokertest.RemoveAll(t, dir)
	second, _, others := background(t, dir, "serve")
	says(t, others, "Ctrl-C stops it")
	for range 10 {
		command(t, dir, "append", "task.created", "--stream", "new", "--actor", "a")
	}
	require.Error(t, first.Wait(), "it ends by itself, and not well")
	says(t, words, "was removed or replaced while this process hosted its log")
	for range 10 {
		command(t, dir, "append", "task.created", "--stream", "new", "--actor", "a")
	}
	require.NoError(t, second.Process.Signal(syscall.SIGKILL))
	_ = second.Wait()
	require.Contains(t, command(t, dir, "append", "task.created", "--stream", "new", "--actor", "a"), `{"seq":21,`)
	require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 21 lines")
	require.Contains(t, command(t, dir, "status"), "none\n")
}

// The directory is moved away under a host and those that have joined it: each says where
// it is and ends, or answers with an error, and nobody makes another log at the old path.
func TestDirectoryMovedAway(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "p", ".opencode")
	require.NoError(t, os.Mkdir(filepath.Dir(dir), 0o700))
	host, _, words := background(t, dir, "serve")
	says(t, words, "Ctrl-C stops it")
	command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	next, _, stands := background(t, dir, "serve")
	says(t, stands, "standing by")
	tail, seen, follows := background(t, dir, "tail", "--from", "start")
	says(t, seen, `"seq":1,`)
	require.NoError(t, os.Rename(filepath.Join(top, "p"), filepath.Join(top, "renamed")))
	require.Error(t, host.Wait())
	require.Error(t, next.Wait())
	require.Error(t, tail.Wait())
	now := filepath.Join(top, "renamed", ".opencode")
	for _, said := range []*syncBuffer{words, stands, follows} {
		require.Contains(t, said.String(), "was moved to "+now)
	}
	require.NoDirExists(t, dir)
	require.NoDirExists(t, filepath.Dir(dir))
	require.Contains(t, command(t, now, "append", "task.created", "--stream", "s", "--actor", "a"), `{"seq":2,`)
}
