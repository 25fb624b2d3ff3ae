package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wait"
)

// smallDisk mounts a tmpfs of 96 MiB for the test.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs and fills it")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { detach(t, dir) })
	return dir
}

// detach unmounts a disk once nothing is open on it. The engine keeps files of a
// batch that was on its way when it stopped, for seconds or until the process ends.
func detach(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH))
}

// ballast fills the disk of dir but for left bytes.
func ballast(t *testing.T, dir string, left int64) (path string) {
	t.Helper()
	path = filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.Eventually(t, func() bool { // others write to the disk meanwhile
		var st unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &st))
		return unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-left) == nil
	}, 10*time.Second, time.Millisecond)
	return path
}

func ofSize(n int) string { return `"` + string(bytes.Repeat([]byte("x"), n-2)) + `"` }

func TestFullDiskUnderTheFloor(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	h := brokertest.Start(t, func(c *broker.Config) {
		c.Dir, c.DiskFloor = filepath.Join(disk, "host"), 16<<20
	})
	// Small events: the 8 MiB that are left must last from one look to the next.
	w := startWriters(t, h, 3, ofSize(1_000))
	w.waitFor(t, 20)

	weight := ballast(t, disk, 8<<20)
	fell := time.Now()
	require.Eventually(t, func() bool {
		_, err := h.Client.Append(t.Context(), newEvent("1"))
		return err != nil
	}, time.Second, time.Millisecond)
	require.Less(t, time.Since(fell), time.Second)
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.NotEmpty(t, all(t, h), "reads go on")

	require.NoError(t, os.Remove(weight))
	w.waitFor(t, 20)
	w.stop()
	w.check(t)
	require.Zero(t, h.Conn.Stats().Reconnects)
}

// The disk runs full between two looks, so that the engine gets stuck; the
// watch learns of it by the stream's health. Appends under way end well once there
// is space, on the same connections.
func TestFullDiskBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		floor int64
		blind bool // the watch sees a free disk until the engine is stuck
	}{
		"never under the floor":      {floor: 1},
		"under the floor afterwards": {floor: 16 << 20, blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t)
			h := brokertest.Start(t, func(cfg *broker.Config) {
				cfg.Dir, cfg.DiskFloor = filepath.Join(disk, "host"), c.floor
			})
			see := func() {}
			if c.blind {
				see = watchBlindly(h, disk, c.floor)
			}
			w := startWriters(t, h, 2, ofSize(200_000))
			if c.blind { // the engine needs space to complete a batch that was cut short
				w.batches(5, ofSize(50_000))
			}
			w.waitFor(t, 10)
			weight := ballast(t, disk, 1<<20)
			waitStuck(t, h)
			see()
			if c.blind {
				require.Eventually(t, func() bool { return h.Broker.Disk().Full }, 2*time.Second, time.Millisecond)
			}

			require.NoError(t, os.Remove(weight))
			freed := time.Now()
			w.waitFor(t, 10)
			require.Less(t, time.Since(freed), 10*time.Second)
			w.stop()
			w.check(t)
			_, err := h.Client.AppendBatch(t.Context(), []event.Event{newEvent("1"), newEvent("2")})
			require.NoError(t, err)
			require.Zero(t, h.Conn.Stats().Reconnects)
		})
	}
}

// A batch whose messages fit on the disk once, where they are gathered, and not
// twice: its commit is cut short, and completed when there is space.
func TestFullDiskInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	h := brokertest.Start(t, func(cfg *broker.Config) { cfg.Dir = filepath.Join(disk, "host") })
	see := watchBlindly(h, disk, 16<<20)
	first, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	batch := make([]event.Event, 10)
	for i := range batch {
		batch[i] = newEvent(ofSize(100_000))
	}
	weight := ballast(t, disk, 1_600_000)
	done := make(chan []event.Recorded, 1)
	go func() {
		rs, err := h.Client.AppendBatch(t.Context(), batch)
		if err != nil {
			t.Error(err)
		}
		done <- rs
	}()
	waitStuck(t, h)
	see()
	require.Eventually(t, func() bool { return h.Broker.Disk().Full }, 2*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(weight))
	select {
	case rs := <-done:
		require.Equal(t, append([]event.Recorded{first}, rs...), all(t, h))
	case <-time.After(20 * time.Second):
		t.Fatal("the batch does not end")
	}
	require.NoDirExists(t, filepath.Join(h.Config.Dir, "batches"))
}

// watchBlindly lets the disk watch see a free disk until it is told to see.
func watchBlindly(h *brokertest.Host, disk string, floor int64) (see func()) {
	var seeing atomic.Bool
	h.Broker.WatchDisk(floor, func() (int64, error) {
		if !seeing.Load() {
			return 1 << 40, nil
		}
		var st unix.Statfs_t
		err := unix.Statfs(disk, &st)
		return int64(st.Bavail) * st.Bsize, err
	})
	return func() { seeing.Store(true) }
}

func waitStuck(t *testing.T, h *brokertest.Host) {
	t.Helper()
	require.Eventually(t, func() bool { return h.Broker.Healthy().Status != "ok" }, 20*time.Second, time.Millisecond)
}

// The control: with the watch off, the engine stays stuck though there is space
// again, until the broker is started anew.
func TestFullDiskWithoutTheWatch(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	h := brokertest.Start(t, func(c *broker.Config) {
		c.Dir, c.DiskFloor = filepath.Join(disk, "host"), -1
	})
	w := startWriters(t, h, 1, ofSize(200_000))
	w.waitFor(t, 10)
	weight := ballast(t, disk, 1<<20)
	waitStuck(t, h)
	w.stop()
	require.NoError(t, os.Remove(weight))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := h.Client.Append(ctx, newEvent("1"))
	require.ErrorIs(t, err, client.ErrUnknownOutcome)
	h.Restart(t)
	_, err = h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	w.check(t)
}

// writers append without end and keep what was acknowledged.
type writers struct {
	h      *brokertest.Host
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	size   int              // of the batches
	read   []event.Recorded // by a subscriber

	mu    sync.Mutex // guards acked
	acked map[string]event.Sequence
}

func startWriters(t *testing.T, h *brokertest.Host, n int, payload string) *writers {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	w := &writers{h: h, ctx: ctx, cancel: cancel, acked: map[string]event.Sequence{}}
	for i := range n {
		w.done.Go(func() {
			for ctx.Err() == nil {
				e := newEvent(payload)
				e.Actor = fmt.Sprint("writer ", i)
				r, err := h.Client.Append(ctx, e)
				if err != nil {
					_ = wait.For(ctx, longtest.Pick(10*time.Millisecond, 0))
					continue // refused, or the end
				}
				w.mu.Lock()
				w.acked[r.ID] = r.Seq
				w.mu.Unlock()
				_ = wait.For(ctx, longtest.Pick(2*time.Millisecond, 0)) // the pace, for which nothing is waited
			}
		})
	}
	w.done.Go(func() {
		for r, err := range h.Client.Subscribe(ctx, event.Filter{}) {
			if err == nil {
				w.read = append(w.read, r)
			}
		}
	})
	t.Cleanup(w.stop)
	return w
}

// batches adds a writer of batches, each on a stream of its own.
func (w *writers) batches(size int, payload string) {
	w.size = size
	w.done.Go(func() {
		for i := 0; w.ctx.Err() == nil; i++ {
			batch := make([]event.Event, size)
			for j := range batch {
				batch[j] = newEvent(payload)
				batch[j].StreamID = fmt.Sprint("batch ", i)
			}
			rs, err := w.h.Client.AppendBatch(w.ctx, batch)
			if err != nil {
				continue
			}
			w.mu.Lock()
			for _, r := range rs {
				w.acked[r.ID] = r.Seq
			}
			w.mu.Unlock()
		}
	})
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// waitFor waits for so many more acknowledgements.
func (w *writers) waitFor(t *testing.T, n int) {
	t.Helper()
	want := w.count() + n
	require.Eventually(t, func() bool { return w.count() >= want }, time.Minute, time.Millisecond)
}

func (w *writers) stop() {
	w.cancel()
	w.done.Wait()
}

// check demands that everything acknowledged, and everything that a subscriber was
// brought, is in the Log once, at its Sequence, and every batch wholly or not at all.
func (w *writers) check(t *testing.T) {
	t.Helper()
	seen := map[string]event.Sequence{}
	inBatch := map[string]int{}
	for _, r := range all(t, w.h) {
		require.NotContains(t, seen, r.ID, "stored twice")
		seen[r.ID] = r.Seq
		if r.StreamID != "s" {
			inBatch[r.StreamID]++
		}
	}
	for i, r := range w.read {
		require.Equal(t, seen[r.ID], r.Seq, "what was read is there")
		require.True(t, i == 0 || w.read[i-1].Seq < r.Seq)
	}
	for name, n := range inBatch {
		require.Equal(t, w.size, n, "%s is whole", name)
	}
	for id, seq := range w.acked {
		require.Equal(t, seq, seen[id])
	}
	t.Logf("%d acknowledged, %d stored", len(w.acked), len(seen))
}
