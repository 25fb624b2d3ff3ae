package broker_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/sickdisk"
	"durablestream/internal/wire"
)

// fewInodes mounts a tmpfs with 96 MiB and 100 inodes for the test.
func fewInodes(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := sickdisk.Tmpfs(dir, "size=96m,nr_inodes=100"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { detach(t, dir) })
	return dir
}

func TestNoInodesUnderTheFloor(t *testing.T) {
	t.Parallel()
	disk := fewInodes(t)
	h := brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), 16<<20 })
	w := startWriters(t, h, 3, ofSize(1_000))
	w.waitFor(t, 20)

	undo, err := sickdisk.FillInodes(disk, 2)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.Broker.Disk().Lack == broker.LackInodes }, 2*time.Second, time.Millisecond)
	_, err = h.Client.Append(t.Context(), newEvent("1"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.ErrorContains(t, err, "2 inodes are free")
	_, err = h.Client.AppendBatch(t.Context(), []event.Event{newEvent("1"), newEvent("2")})
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.NotEmpty(t, all(t, h), "reads go on")

	require.NoError(t, undo())
	w.waitFor(t, 20)
	w.stop()
	w.check(t)
	require.Zero(t, h.Conn.Stats().Reconnects)
}

// The engine needs a file for its next block and there is no inode, which the watch has not
// seen. The engine must not be restarted there: it would not find its stream again, and
// nobody could read.
func TestNoInodesBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	disk := fewInodes(t)
	h := brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), 16<<20 })
	h.Broker.WatchDisk(16<<20, func() (int64, error) { return 1 << 40, nil })
	w := startWriters(t, h, 2, ofSize(1_000_000))
	w.waitFor(t, 4)
	undo, err := sickdisk.FillInodes(disk, 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.Broker.Disk().Full }, 30*time.Second, time.Millisecond)
	for range 3 { // also after further looks
		_, err = h.Client.Append(t.Context(), newEvent("1"))
		require.ErrorIs(t, err, client.ErrDiskFull)
		looked := time.Now()
		require.Eventually(t, func() bool { return time.Since(looked) > 300*time.Millisecond }, time.Second, 10*time.Millisecond)
		require.GreaterOrEqual(t, len(all(t, h)), w.count(), "reads go on")
	}
	require.NoError(t, undo())
	w.waitFor(t, 10)
	w.stop()
	w.check(t)
	require.Zero(t, h.Conn.Stats().Reconnects)
}

// Each lack is named by the error, and ends by itself.
func TestEachLackIsNamed(t *testing.T) {
	t.Parallel()
	ample := broker.Room{Free: 1 << 40, Inodes: 1000, Files: 2000}
	with := func(change func(*broker.Room)) broker.Room {
		r := ample
		change(&r)
		return r
	}
	for words, c := range map[string]struct {
		room broker.Room
		lack broker.Lack
		is   error
	}{
		"249 inodes are free":   {with(func(r *broker.Room) { r.Inodes = 249 }), broker.LackInodes, client.ErrDiskFull},
		"nearly full":           {with(func(r *broker.Room) { r.Probe = syscall.ENOSPC }), broker.LackSpace, client.ErrDiskFull},
		"takes no more files":   {with(func(r *broker.Room) { r.Inodes, r.Probe = 0, syscall.ENOSPC }), broker.LackInodes, client.ErrDiskFull},
		"quota":                 {with(func(r *broker.Room) { r.Probe = syscall.EDQUOT }), broker.LackQuota, client.ErrDiskFull},
		"ulimit -f":             {with(func(r *broker.Room) { r.Probe = syscall.EFBIG }), broker.LackFileSize, client.ErrDiskFull},
		"disk is read-only":     {with(func(r *broker.Room) { r.ReadOnly = true }), broker.LackWriting, client.ErrDiskReadOnly},
		"can be written again":  {with(func(r *broker.Room) { r.Probe = syscall.EROFS }), broker.LackWriting, client.ErrDiskReadOnly},
		"appends are refused, ": {with(func(r *broker.Room) { r.Probe = syscall.EACCES }), broker.LackWriting, client.ErrDiskReadOnly},
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			_, err := h.Client.Append(t.Context(), newEvent("1"))
			require.NoError(t, err)
			var see atomic.Pointer[broker.Room]
			see.Store(&c.room)
			h.Broker.WatchRoom(1<<20, func() broker.Room { return *see.Load() })
			require.Equal(t, c.lack, h.Broker.Disk().Lack)
			_, err = h.Client.Append(t.Context(), newEvent("2"))
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, words)
			_, err = h.Client.AppendBatch(t.Context(), []event.Event{newEvent("2"), newEvent("3")})
			require.ErrorIs(t, err, c.is)
			require.Len(t, all(t, h), 1)
			see.Store(&ample)
			require.Eventually(t, func() bool { return !h.Broker.Disk().Full }, 10*time.Second, time.Millisecond)
			_, err = h.Client.Append(t.Context(), newEvent("2"))
			require.NoError(t, err)
			require.Equal(t, broker.LackNothing, h.Broker.Disk().Lack)
		})
	}
}

// A file system without a limit of inodes reports none, and that is not too few.
func TestNoLimitOfInodes(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	h.Broker.WatchRoom(1<<20, func() broker.Room { return broker.Room{Free: 1 << 40, Inodes: -1} })
	require.False(t, h.Broker.Disk().Full)
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
}

// What keeps a block file from being made and is no lack, such as a failing disk, does not
// refuse anything, but keeps a stuck engine from a restart that would make it worse.
func TestStuckOnAFailingDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	h := brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), -1 })
	w := startWriters(t, h, 1, ofSize(200_000))
	w.waitFor(t, 10)
	undo, err := sickdisk.FillBytes(disk, 1<<20)
	require.NoError(t, err)
	waitStuck(t, h)
	failing := broker.Room{Free: 1 << 40, Inodes: -1, Probe: syscall.EIO}
	var see atomic.Pointer[broker.Room]
	see.Store(&failing)
	h.Broker.WatchRoom(1, func() broker.Room { return *see.Load() })
	require.Eventually(t, func() bool { return h.Broker.Disk().Blocked != "" }, 10*time.Second, time.Millisecond)
	require.Contains(t, h.Broker.Stuck(), syscall.EIO.Error())
	require.False(t, h.Broker.Disk().Full)
	require.GreaterOrEqual(t, len(all(t, h)), w.count(), "reads go on")

	require.NoError(t, undo())
	see.Store(&broker.Room{Free: 1 << 40, Inodes: -1})
	w.waitFor(t, 10)
	w.stop()
	w.check(t)
	require.Empty(t, h.Broker.Disk().Blocked)
}

// A probe that a crash has left is removed at the next start, and nobody takes it for
// something else.
func TestLeftoverProbe(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	want, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	h.Stop(t)
	left := filepath.Join(h.Config.Dir, broker.StoreDir, "jetstream", "$G", "streams", wire.LogName, broker.ProbeFile)
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	h.Boot(t)
	require.NoFileExists(t, left)
	require.Equal(t, []event.Recorded{want}, all(t, h))
}

// A host that may not write files of a block's size says so before the engine meets the
// limit.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "host")
	brokertest.Child(t, hostDir+"="+dir, hostMode+"=fsize")
	nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir)})
	require.NoError(t, err)
	defer nc.Close()
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Append(t.Context(), newEvent("1"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.ErrorContains(t, err, "ulimit -f")
}

// A disk that is remounted read-only, and back: reads go on, appends are refused in words,
// and then taken, by the same process on the same connections.
func TestReadOnlyAndBack(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	h := brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), 16<<20 })
	want, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	h.Restart(t) // the engine opens its last block for writing at the next append, and the kernel minds that
	require.Len(t, all(t, h), 1)
	connected := h.Conn.Stats().Reconnects
	var undo sickdisk.Undo
	require.Eventually(t, func() bool {
		undo, err = sickdisk.ReadOnly(disk)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "%v", err)
	require.Eventually(t, func() bool { return h.Broker.Disk().Lack == broker.LackWriting }, 20*time.Second, time.Millisecond)
	for range 3 {
		_, err = h.Client.Append(t.Context(), newEvent("2"))
		require.ErrorIs(t, err, client.ErrDiskReadOnly)
		_, err = h.Client.AppendBatch(t.Context(), []event.Event{newEvent("2"), newEvent("3")})
		require.ErrorIs(t, err, client.ErrDiskReadOnly)
		require.Equal(t, []event.Recorded{want}, all(t, h))
	}
	require.NoError(t, undo())
	require.Eventually(t, func() bool { return !h.Broker.Disk().Full }, 20*time.Second, time.Millisecond)
	_, err = h.Client.Append(t.Context(), newEvent("2"))
	require.NoError(t, err)
	require.Len(t, all(t, h), 2)
	require.Equal(t, connected, h.Conn.Stats().Reconnects)
}
