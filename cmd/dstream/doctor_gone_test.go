package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/doctor"
)

// Of a log whose store is gone the doctor does not advise to call the doctor: it makes the
// log again from the mirror.
func TestDoctorMissingStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	for range 3 {
		status, _, words := dstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a")
		require.Zero(t, status, words)
	}
	status, _, words := dstream(t, "--dir", dir, "checkpoint", "request", "--stream", "s", "--actor", "a", "--decision-point", "ship it?", "--option", "yes")
	require.Zero(t, status, words)
	_, before, _ := dstream(t, "--dir", dir, "query")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir, broker.StoreDir)))

	status, out, found := doctorSays(t, dir)
	require.Equal(t, exitFailed, status)
	require.Equal(t, []string{doctor.FoundStore}, names(found))
	require.Contains(t, out, "the log is gone")
	require.Contains(t, out, "--fix: makes the log again")
	require.NotContains(t, out, "dstream doctor")
	require.NoDirExists(t, filepath.Join(dir, durablestream.HostDir, broker.StoreDir), "a look changes nothing")

	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "the log and the mirror are equal")
	_, after, _ := dstream(t, "--dir", dir, "query")
	require.Equal(t, before, after)
	wellAgain(t, dir)
}

// Where the mirror is damaged too, nothing is made of it, and that is said.
func TestDoctorMissingStoreDamagedMirror(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	for range 3 {
		status, _, words := dstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a")
		require.Zero(t, status, words)
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir, broker.StoreDir)))
	changeLine(t, dir, 2)
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "line 2")
	require.Contains(t, out, "back from a copy")
	require.NotContains(t, out, "dstream doctor")
	require.NoDirExists(t, filepath.Join(dir, durablestream.HostDir, broker.StoreDir))
}

// An empty store beside the mirror, which earlier versions left behind where they refused to
// host: it lacks what the mirror has, and no more.
func TestDoctorEmptyStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	status, out, found := doctorSays(t, dir)
	require.Zero(t, status, out)
	require.Empty(t, found)

	other := filepath.Join(t.TempDir(), ".opencode")
	for range 3 {
		status, _, words := dstream(t, "--dir", other, "append", "task.created", "--stream", "s", "--actor", "a")
		require.Zero(t, status, words)
	}
	_, before, _ := dstream(t, "--dir", other, "query")
	lines, err := os.ReadFile(filepath.Join(other, durablestream.MirrorFile))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, durablestream.MirrorFile), lines, 0o600))

	status, out, _ = doctorSays(t, dir)
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "cannot read 3 positions: position 1 to 3")
	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "3 positions brought back")
	_, after, _ := dstream(t, "--dir", dir, "query")
	require.Equal(t, before, after)
	wellAgain(t, dir)
}
