package broker_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/brokertest"
	"durablestream/internal/sickdisk"
)

// tornOn is tornIn on a disk of its own.
func tornOn(t *testing.T, floor int64) (h *brokertest.Host, disk string) {
	t.Helper()
	disk = smallDisk(t)
	h, _ = tornIn(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), floor })
	h.Stop(t)
	return h, disk
}

// A host that starts while there is no room to complete a batch does not lose the rest of
// it: appends are refused, readers see nothing of it, and it is completed when there is room.
func TestABatchIsCompletedWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	h, disk := tornOn(t, 1)
	undo, err := sickdisk.FillBytes(disk, 1<<20)
	require.NoError(t, err)
	for range 2 { // a start without room leaves it for the next one
		h.Boot(t)
		require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 20*time.Second, time.Millisecond)
		require.True(t, h.Broker.Disk().Full)
		require.Len(t, all(t, h), 1, "reads go on, without a part of the batch")
		_, err = h.Client.Append(t.Context(), newEvent("2"))
		require.ErrorIs(t, err, client.ErrDiskFull)
		h.Stop(t)
	}
	h.Boot(t)
	require.NoError(t, undo())
	require.Eventually(t, func() bool { return !h.Broker.Disk().Full }, 20*time.Second, time.Millisecond)
	r, err := h.Client.Append(t.Context(), newEvent("3"))
	require.NoError(t, err)
	require.EqualValues(t, 402, r.Seq)
	events := all(t, h)
	require.Len(t, events, 402)
	for i, e := range events[1:401] {
		require.Equal(t, fmt.Sprintf("member_%d", i), e.ID)
	}
	require.NoDirExists(t, filepath.Join(h.Config.Dir, broker.AsideDir))
}

// Where nobody watches the disk, nobody completes the batch: the next start does.
func TestABatchWithoutRoomAndWithoutAWatch(t *testing.T) {
	t.Parallel()
	h, disk := tornOn(t, -1)
	undo, err := sickdisk.FillBytes(disk, 1<<20)
	require.NoError(t, err)
	h.Boot(t)
	require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 20*time.Second, time.Millisecond)
	require.Len(t, all(t, h), 1)
	_, err = h.Client.Append(t.Context(), newEvent("2"))
	require.ErrorIs(t, err, client.ErrTornBatch)
	require.ErrorContains(t, err, "make room, and start the host again")
	h.Stop(t)
	require.NoError(t, undo())
	h.Boot(t)
	require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 20*time.Second, time.Millisecond)
	require.Len(t, all(t, h), 401)
}
