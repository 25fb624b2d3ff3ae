package readcopy_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/internal/readcopy"
	"durablestream/internal/sickdisk"
)

// store writes files as a host directory has them.
func store(t *testing.T, host string) (msgs string) {
	t.Helper()
	msgs = filepath.Join(host, "store", "log", "msgs")
	require.NoError(t, os.MkdirAll(msgs, 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(host, "store", "log", "obs", "reader"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(host, "store", "jetstream", "$G", "streams"), 0o700))
	require.NoError(t, os.Symlink("../../../log", filepath.Join(host, "store", "jetstream", "$G", "streams", "EVENTS")))
	for _, name := range []string{"2.blk", "9.blk", "10.blk", "index.db"} {
		require.NoError(t, os.WriteFile(filepath.Join(msgs, name), []byte(name), 0o600))
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(filepath.Join(msgs, "10.blk"), old, old))
	return msgs
}

func make1(t *testing.T, host string) *readcopy.Copy {
	t.Helper()
	c, err := readcopy.Make(host, "store", "batches")
	require.NoError(t, err)
	return c
}

// kinds tells of each block whether it is a link in the copy.
func kinds(t *testing.T, c *readcopy.Copy) (links []string) {
	t.Helper()
	through := filepath.Join(c.Dir, "store", "jetstream", "$G", "streams", "EVENTS", "msgs")
	entries, err := os.ReadDir(through)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 {
			links = append(links, e.Name())
		}
		b, err := os.ReadFile(filepath.Join(through, e.Name()))
		require.NoError(t, err)
		require.Equal(t, e.Name(), string(b))
	}
	require.Len(t, entries, 4)
	return links
}

// A block that could be written is copied, whatever its directory allows: a link would let
// the engine change it.
func TestWritableBlocksAreCopied(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := t.TempDir()
	msgs := store(t, host)
	c := make1(t, host)
	require.Empty(t, kinds(t, c))
	require.NoDirExists(t, filepath.Join(c.Dir, "store", "log", "obs"))
	was, err := os.Stat(filepath.Join(msgs, "10.blk"))
	require.NoError(t, err)
	is, err := os.Stat(filepath.Join(c.Dir, "store", "log", "msgs", "10.blk"))
	require.NoError(t, err)
	require.Equal(t, was.ModTime(), is.ModTime(), "by which it is known to be checked")
	require.NoError(t, c.Remove())
	require.NoDirExists(t, c.Dir)
}

// Of blocks that cannot be written only the newest is copied, which the engine goes on with.
func TestFullBlocksAreLinked(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	disk := t.TempDir()
	if err := sickdisk.Tmpfs(disk, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { require.NoError(t, sickdisk.Detach(disk)) })
	store(t, disk)
	_, err := sickdisk.ReadOnly(disk)
	require.NoError(t, err)
	c := make1(t, disk)
	require.Equal(t, []string{"2.blk", "9.blk"}, kinds(t, c))
	require.NoError(t, c.Remove())
	require.FileExists(t, filepath.Join(disk, "store", "log", "msgs", "2.blk"))
}

// What a killed process has left goes with the next copy; what somebody uses stays.
func TestLeftovers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := t.TempDir()
	store(t, host)
	used, left := make1(t, host), make1(t, host)
	left.Abandon()
	again := make1(t, host)
	require.NoDirExists(t, left.Dir)
	require.DirExists(t, used.Dir)
	require.NoError(t, used.Remove())
	require.NoError(t, again.Remove())
}

// A log that is hosted is not copied: it changes, and its host answers.
func TestInUse(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := t.TempDir()
	store(t, host)
	f, err := os.Open(filepath.Join(host, "store"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	_, err = readcopy.Make(host, "store")
	require.ErrorIs(t, err, readcopy.ErrInUse)
}
