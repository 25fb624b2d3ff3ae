package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/doctor"
	"durablestream/internal/sickdisk"
	st "durablestream/internal/status"
)

// onDisk unmounts what mounted was the answer to, and skips where there is none.
func onDisk(t *testing.T, dir string, mounted error) {
	t.Helper()
	if mounted != nil {
		t.Skip(mounted)
	}
	t.Cleanup(func() { require.NoError(t, sickdisk.Detach(dir)) })
}

// tryAppend gives the words of an append that is refused; "": it was stored.
func tryAppend(t *testing.T, dir string) string {
	t.Helper()
	return tryAppendFor(t, dir, "1m")
}

func tryAppendFor(t *testing.T, dir, timeout string) string {
	t.Helper()
	_, words, err := runDstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a", "--timeout", timeout)
	if err == nil {
		return ""
	}
	require.NotEmpty(t, words)
	return words
}

// sees waits for an alarm of status, and demands that it says words.
func sees(t *testing.T, dir, name, words string) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, out, _ := dstream(t, "--dir", dir, "status", "--json")
		if strings.Contains(out, `"alarm": "`+name+`"`) {
			require.Equal(t, exitFailed, status)
			require.Contains(t, out, words)
			return true
		}
		return false
	}, 20*time.Second, 10*time.Millisecond)
}

func TestStatusWithoutInodes(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	onDisk(t, disk, sickdisk.Tmpfs(disk, "size=96m,nr_inodes=100"))
	dir := filepath.Join(disk, ".opencode")
	_, url := hosting(t, dir, monitorURL, "--monitor", "127.0.0.1:0", "--disk-floor", "1000000")
	require.Empty(t, tryAppend(t, dir))
	require.InDelta(t, 12, scrape(t, url)["durable_stream_disk_floor_inodes"], 0)
	undo, err := sickdisk.FillInodes(disk, 0)
	require.NoError(t, err)
	sees(t, dir, st.AlarmDisk, "the file system of the log has 0 free inodes, under the floor of 12")
	require.Contains(t, tryAppend(t, dir), "0 inodes are free")
	_, out, _ := dstream(t, "--dir", dir, "query")
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 1)
	require.InDelta(t, 0, scrape(t, url)["durable_stream_disk_free_inodes"], 0)
	require.InDelta(t, 1, scrape(t, url)["durable_stream_disk_refusing_appends"], 0)
	require.NoError(t, undo())
	require.Eventually(t, func() bool { return tryAppend(t, dir) == "" }, 20*time.Second, 10*time.Millisecond)
	wellAgain(t, dir)
}

// An error of the disk makes it read-only under the host. What is there is read all the
// same, and what is wrong is said.
func TestDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	onDisk(t, disk, sickdisk.Ext4(disk, filepath.Join(t.TempDir(), "image"), 128<<20))
	dir := filepath.Join(disk, ".opencode")
	_, url := hosting(t, dir, monitorURL, "--monitor", "127.0.0.1:0", "--disk-floor", "1000000")
	for range 3 {
		require.Empty(t, tryAppend(t, dir))
	}
	require.Eventually(t, func() bool {
		_, out, _ := dstream(t, "--dir", dir, "status", "--json")
		return strings.Contains(out, `"mirror_lag": 0`)
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, sickdisk.Abort(disk))
	require.NotEmpty(t, tryAppendFor(t, dir, "3s"), "perhaps it was on its way before the host saw that")
	sees(t, dir, st.AlarmReadOnly, "read-only")
	for range 3 { // however often the watch looks
		require.Contains(t, tryAppend(t, dir), "the host's disk is read-only")
		for _, command := range []string{"query", "resume", "checkpoint list", "intent list", "lineage --stream s", "mirror verify"} {
			status, out, words := dstream(t, append([]string{"--dir", dir}, strings.Fields(command)...)...)
			require.Zero(t, status, command+": "+words)
			if command == "query" {
				require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 3)
			}
		}
	}
	_, out, _ := dstream(t, "--dir", dir, "status")
	require.Contains(t, out, "READ-ONLY")
	require.NotContains(t, out, "stuck")
	require.InDelta(t, 1, scrape(t, url)["durable_stream_disk_read_only"], 0)
	_, _, found := doctorSays(t, dir)
	require.Contains(t, names(found), doctor.FoundReadOnly)
}
