package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/internal/doctor"
)

// A host whose disk was full, and whose watch is off, so that its engine stays stuck.
func TestDoctorAppendsStuck(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs and fills it")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	dir := filepath.Join(disk, ".opencode")
	cmd, _ := hosting(t, dir, hostPID, "--disk-floor", "-1")
	stuck := func() bool {
		out, words, err := runDstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a", "--timeout", "2s",
			"--payload", `"`+strings.Repeat("x", 100_000)+`"`)
		return err != nil && strings.Contains(out+words, "unknown")
	}
	require.False(t, stuck())
	wellAgain(t, dir)

	weight, err := os.Create(filepath.Join(disk, "ballast"))
	require.NoError(t, err)
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(disk, &st))
	require.NoError(t, unix.Fallocate(int(weight.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-50_000))
	require.NoError(t, weight.Close())
	require.Eventually(t, stuck, time.Minute, time.Millisecond)
	require.NoError(t, os.Remove(weight.Name()))
	require.True(t, stuck(), "though there is space")

	status, out, _ := dstream(t, "--dir", dir, "status")
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "appends get no answer: the engine is stuck")
	_, out, found := doctorSays(t, dir)
	require.Contains(t, names(found), doctor.FoundWedged)
	require.Contains(t, out, "appends get no answer")
	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "repaired: the host has ended")
	_ = cmd.Wait()
	hosting(t, dir, hostPID)
	require.False(t, stuck())
	wellAgain(t, dir)
}
