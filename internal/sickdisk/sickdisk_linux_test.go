package sickdisk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/internal/sickdisk"
)

func mounted(t *testing.T, err error, dir string) {
	t.Helper()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { require.NoError(t, sickdisk.Detach(dir)) })
}

// It does not run beside the others: a command that these start holds, until it runs, the files
// that are open here. So a removed file's space comes back late, behind the filled disk's back.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	mounted(t, sickdisk.Tmpfs(dir, "size=16m,nr_inodes=60"), dir)
	write := func(name string, bytes int) error {
		defer os.Remove(filepath.Join(dir, name))
		return os.WriteFile(filepath.Join(dir, name), make([]byte, bytes), 0o600)
	}
	require.NoError(t, write("a", 1<<20))

	undo, err := sickdisk.FillBytes(dir, 64<<10)
	require.NoError(t, err)
	require.ErrorIs(t, write("a", 1<<20), unix.ENOSPC)
	require.NoError(t, write("a", 32<<10))
	require.NoError(t, undo())

	undo, err = sickdisk.FillInodes(dir, 2)
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.ErrorIs(t, write("c", 0), unix.ENOSPC)
	require.NoError(t, undo())

	undo, err = sickdisk.ReadOnly(dir)
	require.NoError(t, err)
	require.ErrorIs(t, write("c", 0), unix.EROFS)
	f, err := os.Open(filepath.Join(dir, "a"))
	require.NoError(t, err, "it is read")
	require.NoError(t, f.Close())
	require.NoError(t, undo())
	require.NoError(t, write("c", 1))
}

// A file that is open for writing does not protect a disk from its own errors.
func TestAbort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mounted(t, sickdisk.Ext4(dir, filepath.Join(t.TempDir(), "image"), 16<<20, "-N", "64"), dir)
	f, err := os.Create(filepath.Join(dir, "a"))
	require.NoError(t, err)
	defer f.Close()
	_, err = sickdisk.ReadOnly(dir)
	require.ErrorContains(t, err, "busy")
	require.NoError(t, sickdisk.Abort(dir))
	_, err = f.Write([]byte("x"))
	require.ErrorIs(t, err, unix.EROFS)
	_, err = os.ReadFile(f.Name())
	require.NoError(t, err)
}
