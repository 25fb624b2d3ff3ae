package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/doctor"
	"durablestream/internal/sickdisk"
)

// Where nobody hosts, the doctor finds what keeps the next host from taking appends, or from
// starting.
func TestDoctorFullDiskWithoutHost(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	onDisk(t, disk, sickdisk.Tmpfs(disk, "size=96m,nr_inodes=100"))
	dir := filepath.Join(disk, ".opencode")
	require.Empty(t, tryAppend(t, dir))
	status, _, found := doctorSays(t, dir)
	require.Zero(t, status)
	require.Empty(t, found)
	for words, fill := range map[string]func() (sickdisk.Undo, error){
		"the disk has 0 bytes free, under the floor of 64.0 MiB": func() (sickdisk.Undo, error) { return sickdisk.FillBytes(disk, 0) },
		"the disk has 4096 bytes free, under the floor":          func() (sickdisk.Undo, error) { return sickdisk.FillBytes(disk, 4096) },
		"0 free inodes, under the floor of 12: appends are refused until files are removed, however small they are (df -i); a host needs 8 to start there": func() (sickdisk.Undo, error) { return sickdisk.FillInodes(disk, 0) },
		"9 free inodes, under the floor of 12: appends are refused until files are removed, however small they are (df -i)":                                func() (sickdisk.Undo, error) { return sickdisk.FillInodes(disk, 9) },
	} {
		undo, err := fill()
		require.NoError(t, err)
		status, out, found := doctorSays(t, dir)
		require.Equal(t, exitFailed, status, words)
		require.Equal(t, []string{doctor.FoundDisk}, names(found), words)
		require.Contains(t, found[0].What, words)
		require.True(t, found[0].Sure)
		require.NotContains(t, out, "nothing is wrong")
		require.NoError(t, undo())
	}
	status, _, found = doctorSays(t, dir)
	require.Zero(t, status)
	require.Empty(t, found)
	wellAgain(t, dir)
}
