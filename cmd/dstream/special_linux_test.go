package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream"
)

// A pipe in the place of any file of a log's own is refused by name, and not waited for.
func TestPipesInALog(t *testing.T) {
	t.Parallel()
	host := durablestream.HostDir
	for _, name := range []string{
		host + "/home", host + "/address", host + "/managed", host + "/starting", host + "/lock", host + "/repair", host + "/mirror.lock", host + "/.gitignore",
		host + "/store/checked.json", host + "/store/log.meta", host + "/store", durablestream.MirrorFile,
	} {
		dir := filepath.Join(t.TempDir(), ".opencode")
		status, _, words := dstream(t, "--dir", dir, "append", "a.b", "--stream", "s", "--actor", "me")
		require.Zero(t, status, words)
		path := filepath.Join(dir, name)
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, unix.Mkfifo(path, 0o600))
		for _, args := range [][]string{{"append", "a.b", "--stream", "s", "--actor", "me"}, {"query"}, {"status"}, {"doctor"}} {
			status, _, words := dstream(t, append([]string{"--dir", dir}, args...)...)
			if args[0] == "append" {
				require.Equal(t, exitFailed, status, "%s: %v", name, args)
				require.Contains(t, words, path, "%s: %v", name, args)
				require.Contains(t, words, "no regular file", "%s: %v", name, args)
			}
		}
		require.NoError(t, os.Remove(path))
	}
}

// The first signal ends a command whose start waits for what does not come.
func TestSignalEndsAStartThatHangs(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	base := t.TempDir()
	keys := filepath.Join(base, "keys")
	require.NoError(t, unix.Mkfifo(keys, 0o600))
	cmd := exec.Command(exe, "--dir", filepath.Join(base, ".opencode"), "serve", "--keys", keys)
	cmd.Env = append(os.Environ(), "DSTREAM_TEST_AS=dstream")
	require.NoError(t, cmd.Start())
	w, err := os.OpenFile(keys, os.O_WRONLY, 0) // until the list is being read
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait() // a failure would be that it does not end
}
