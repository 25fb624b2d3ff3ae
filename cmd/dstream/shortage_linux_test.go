package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/sickdisk"
)

// A host that finds too few inodes names them, and not what the engine says about that.
func TestStartWithFewInodes(t *testing.T) {
	t.Parallel()
	for _, inodes := range []string{"5", "9", "13", "17", "21"} {
		disk := t.TempDir()
		onDisk(t, disk, sickdisk.Tmpfs(disk, "size=96m,nr_inodes="+inodes))
		words := tryAppend(t, filepath.Join(disk, ".opencode"))
		require.Contains(t, words, "free inodes, and a host needs 32 to start", inodes)
		require.NotContains(t, words, "engine")
	}
	disk := t.TempDir()
	onDisk(t, disk, sickdisk.Tmpfs(disk, "size=96m,nr_inodes=60"))
	dir := filepath.Join(disk, ".opencode")
	require.Empty(t, tryAppend(t, dir))
	undo, err := sickdisk.FillInodes(disk, 3)
	require.NoError(t, err)
	require.Contains(t, tryAppend(t, dir), "3 free inodes, and a host needs 8 to start")
	require.NoError(t, undo())
	require.Empty(t, tryAppend(t, dir))
	wellAgain(t, dir)
}

// The same of file descriptors, whatever the engine would have met first.
func TestStartWithFewDescriptors(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	require.Empty(t, tryAppend(t, dir))
	for _, most := range []string{"8", "10", "12", "14", "16", "40"} {
		words := &syncBuffer{}
		cmd := as(t, "dstream", words, nil, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a", "--timeout", "3s")
		shell, err := exec.LookPath("sh")
		require.NoError(t, err)
		cmd.Args = append([]string{shell, "-c", "ulimit -n " + most + `; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = shell
		require.Error(t, cmd.Run())
		require.Contains(t, words.String(), "more files, and a host needs 64", most)
		require.Contains(t, words.String(), "ulimit -n")
	}
	require.NoFileExists(t, filepath.Join(dir, "durable_stream", "address"))
	require.Empty(t, tryAppend(t, dir))
	wellAgain(t, dir)
}
