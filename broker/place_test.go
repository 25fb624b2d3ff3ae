package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/fence"
	"durablestream/internal/wire"
)

// withEvents starts a host with three events; no watch over the disk looks at it.
func withEvents(t *testing.T) (*brokertest.Host, []event.Recorded) {
	t.Helper()
	h := brokertest.Start(t, func(c *broker.Config) { c.DiskFloor = -1 })
	var events []event.Recorded
	for _, p := range []string{"1", "2", "3"} {
		r, err := h.Client.Append(t.Context(), newEvent(p))
		require.NoError(t, err)
		events = append(events, r)
	}
	return h, events
}

// A request that deletes the stream takes the link: all events are there after the next
// restart of the engine, in this process or in the next one.
func TestDeletedByRequest(t *testing.T) {
	t.Parallel()
	t.Run("in this process", func(t *testing.T) {
		t.Parallel()
		h, events := withEvents(t)
		require.NoError(t, h.Admin(t).DeleteStream(t.Context(), wire.LogName))
		h.Broker.RestartEngine()
		require.Equal(t, events, all(t, h))
		r, err := h.Client.Append(t.Context(), newEvent("4"))
		require.NoError(t, err)
		require.EqualValues(t, 4, r.Seq)
	})
	t.Run("in the next one", func(t *testing.T) {
		t.Parallel()
		h, events := withEvents(t)
		require.NoError(t, h.Admin(t).DeleteStream(t.Context(), wire.LogName))
		h.Restart(t)
		require.Equal(t, events, all(t, h))
	})
	t.Run("by the watch over the disk", func(t *testing.T) {
		t.Parallel()
		h, events := withEvents(t)
		h.Broker.WatchDisk(1, func() (int64, error) { return 1 << 40, nil })
		require.NoError(t, h.Admin(t).DeleteStream(t.Context(), wire.LogName))
		require.Eventually(t, func() bool { return h.Broker.Healthy().Status == "ok" }, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, events, all(t, h))
	})
}

// An engine that cannot open the Log at its restart, here because a directory that it
// needs is a file, leads to a refusal in words and not to an empty Log.
func TestLogThatTheEngineDoesNotOpen(t *testing.T) {
	t.Parallel()
	h, events := withEvents(t)
	obs := filepath.Join(h.Config.Dir, broker.StoreDir, fence.DataDir, "obs")
	spoil := func() {
		require.NoError(t, os.RemoveAll(obs))
		require.NoError(t, os.WriteFile(obs, nil, 0o600))
	}
	spoil()
	h.Broker.RestartEngine()
	_, err := h.Admin(t).Stream(t.Context(), wire.LogName)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	_, err = h.Client.Append(t.Context(), newEvent(`"refused"`))
	var refused *client.RefusedError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "no other Log is created")
	require.ErrorContains(t, err, "obs", "the engine's own words")
	_, err = h.Client.AppendBatch(t.Context(), []event.Event{newEvent(`"refused"`), newEvent(`"refused, too"`)})
	require.ErrorAs(t, err, &refused)
	require.Contains(t, h.Broker.Stuck(), "no other Log is created")

	require.NoError(t, os.Remove(obs))
	h.Broker.RestartEngine()
	require.Empty(t, h.Broker.Stuck())
	r, err := h.Client.Append(t.Context(), newEvent("4"))
	require.NoError(t, err)
	events = append(events, r)
	require.Equal(t, events, all(t, h))

	h.Stop(t)
	spoil()
	_, err = start(t, h.Config)
	var notOpen *broker.NotOpenError
	require.ErrorAs(t, err, &notOpen)
	require.ErrorContains(t, err, "obs")
	require.NoError(t, os.Remove(obs))
	h.Boot(t)
	require.Equal(t, events, all(t, h))
}

// A store that cannot be settled keeps the engine off, and one that can again lets it on.
func TestEngineStaysOffALogThatHasGone(t *testing.T) {
	t.Parallel()
	h, events := withEvents(t)
	data := filepath.Join(h.Config.Dir, broker.StoreDir, fence.DataDir)
	require.NoError(t, os.Rename(data, data+".away"))
	h.Broker.RestartEngine()
	_, err := h.Client.Append(t.Context(), newEvent(`"refused"`))
	var refused *client.RefusedError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "has gone")
	require.NoError(t, os.Rename(data+".away", data))
	h.Broker.RestartEngine()
	require.Equal(t, events, all(t, h))
}

// The finder of blocks sees the Log with its link, without it, and before the fence.
func TestBlocksAreFound(t *testing.T) {
	t.Parallel()
	h, _ := withEvents(t)
	h.Stop(t)
	store := filepath.Join(h.Config.Dir, broker.StoreDir)
	link := filepath.Dir(blocks.Dir(store, "$G"))
	find := func(want ...string) {
		t.Helper()
		dirs, err := blocks.Find(store)
		require.NoError(t, err)
		require.Equal(t, want, dirs)
	}
	find(blocks.Dir(store, "$G"))
	require.NoError(t, os.Remove(link))
	find(filepath.Join(store, fence.DataDir, "msgs"))
	require.NoError(t, os.MkdirAll(filepath.Join(link, "msgs"), 0o700))
	find(blocks.Dir(store, "$G"), filepath.Join(store, fence.DataDir, "msgs"))
	require.NoError(t, errors.Join(os.RemoveAll(link), os.Rename(filepath.Join(store, fence.DataDir), link)))
	find(blocks.Dir(store, "$G"))
}

// A link that a crash has left before the Log went behind the fence hinders no start.
func TestLinkThatWasNotExchanged(t *testing.T) {
	t.Parallel()
	h, events := withEvents(t)
	h.Stop(t)
	store := filepath.Join(h.Config.Dir, broker.StoreDir)
	link, data := filepath.Dir(blocks.Dir(store, "$G")), filepath.Join(store, fence.DataDir)
	require.NoError(t, errors.Join(os.Remove(link), os.Rename(data, link), os.Symlink("../../../log", data)))
	dirs, err := blocks.Find(store)
	require.NoError(t, err)
	require.Equal(t, []string{blocks.Dir(store, "$G")}, dirs)
	require.NoError(t, broker.CheckLinks(h.Config.Dir))
	h.Boot(t)
	require.Equal(t, events, all(t, h))
}
