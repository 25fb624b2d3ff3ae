package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
)

// lostLog is a log of one event whose store is put away. The mirror is taken away too,
// unless it is kept.
func lostLog(t *testing.T, keepMirror bool) (dir, store, away string) {
	dir = filepath.Join(t.TempDir(), ".opencode")
	status, _, words := dstream(t, "--dir", dir, "append", "a.b", "--stream", "s", "--actor", "me")
	require.Zero(t, status, words)
	store = filepath.Join(dir, durablestream.HostDir, broker.StoreDir)
	away = filepath.Join(filepath.Dir(dir), "away")
	require.NoError(t, os.Rename(store, away))
	if !keepMirror {
		require.NoError(t, os.Remove(durablestream.MirrorPath(dir)))
	}
	return dir, store, away
}

// In the place of a log whose store is gone nobody makes an empty one.
func TestLostStore(t *testing.T) {
	t.Parallel()
	for _, keepMirror := range []bool{false, true} {
		dir, store, away := lostLog(t, keepMirror)
		for _, empty := range []bool{false, true} { // as a mount that has gone leaves it
			if empty {
				require.NoError(t, os.Mkdir(store, 0o700))
			}
			for _, args := range [][]string{
				{"append", "a.b", "--stream", "s", "--actor", "me"}, {"query"}, {"serve", "--no-mirror"}, {"import", "--expire"},
			} {
				status, out, words := dstream(t, append([]string{"--dir", dir}, args...)...)
				require.Equal(t, exitFailed, status, "%v: %s", args, words)
				require.Empty(t, out)
				require.Contains(t, words, "is gone", args)
				require.Contains(t, words, "put the store back", args)
				require.Equal(t, keepMirror, strings.Contains(words, "doctor --fix"), "%s", words)
				if !empty {
					require.NoDirExists(t, store, args)
				}
			}
		}
		if !keepMirror {
			status, _, words := dstream(t, "--dir", dir, "restore")
			require.Equal(t, exitFailed, status)
			require.Contains(t, words, "no lines to restore from")
			require.NoError(t, os.Remove(store), "nothing was made in it")
			for _, args := range [][]string{{"status"}, {"restore"}} {
				status, _, words := dstream(t, append([]string{"--dir", dir}, args...)...)
				require.Equal(t, exitFailed, status, args)
				require.Contains(t, words, "put the store back", args)
			}
		}
		require.NoError(t, os.RemoveAll(store))
		require.NoError(t, os.Rename(away, store))
		status, out, words := dstream(t, "--dir", dir, "query")
		require.Zero(t, status, words)
		require.Contains(t, out, `{"seq":1,`)
	}
}

// The ways out that the words name: a new log, and the one that the mirror has.
func TestLostStoreWaysOut(t *testing.T) {
	t.Parallel()
	dir, _, _ := lostLog(t, false)
	status, _, words := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status)
	require.Contains(t, words, "put the store back")
	require.NoError(t, os.Remove(filepath.Join(dir, durablestream.HostDir, broker.HomeFile)))
	status, _, words = dstream(t, "--dir", dir, "append", "a.b", "--stream", "s", "--actor", "me")
	require.Zero(t, status, words)

	for _, args := range [][]string{{"doctor", "--fix", "--yes"}, {"restore"}} {
		dir, _, _ = lostLog(t, true)
		status, _, words = dstream(t, append([]string{"--dir", dir}, args...)...)
		require.Zero(t, status, words)
		status, out, words := dstream(t, "--dir", dir, "append", "a.b", "--stream", "s", "--actor", "me")
		require.Zero(t, status, words)
		require.Contains(t, out, `{"seq":2,`)
	}
}

// Of a copy that came without its store it is not known that a log was there.
func TestLostStoreOfACopy(t *testing.T) {
	t.Parallel()
	dir, _, _ := lostLog(t, false)
	copied := filepath.Join(t.TempDir(), ".opencode")
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	status, _, words := dstream(t, "--dir", copied, "append", "a.b", "--stream", "s", "--actor", "me")
	require.Zero(t, status, words)
}
