package broker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/sickdisk"
)

// tornOn is a host on a disk of its own that has stopped with a part of a batch of 400 events
// at the end of its Log, which held one before.
func tornOn(t *testing.T, floor int64) (h *brokertest.Host, disk string) {
	t.Helper()
	disk = smallDisk(t)
	h = brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk, "host"), floor })
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	batch := make([]event.Event, 400)
	for i := range batch {
		batch[i] = newEvent(ofSize(10_000))
		batch[i].ID = fmt.Sprintf("member_%d", i)
	}
	require.NoError(t, h.Broker.LimitStore(200_000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	appended := make(chan error, 1)
	go func() {
		_, err := h.Client.AppendBatch(ctx, batch)
		appended <- err
	}()
	torn := func() bool { // a part of the batch is stored
		st, err := h.Client.State(t.Context())
		require.NoError(t, err)
		return st.Last > 2 && st.Last < 401
	}
	require.Eventually(t, torn, 20*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-appended, client.ErrUnknownOutcome)
	require.True(t, torn())
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

// Where nobody watches the disk, nobody would complete the batch.
func TestABatchWithoutRoomAndWithoutAWatch(t *testing.T) {
	t.Parallel()
	h, disk := tornOn(t, -1)
	undo, err := sickdisk.FillBytes(disk, 1<<20)
	require.NoError(t, err)
	_, err = broker.Start(t.Context(), h.Config)
	require.ErrorContains(t, err, "are needed to complete batches that are stored in part")
	require.NoError(t, undo())
	h.Boot(t)
	require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 20*time.Second, time.Millisecond)
	require.Len(t, all(t, h), 401)
}
