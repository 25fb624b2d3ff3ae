package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/engine"
)

// tornIn is a host whose Log held one event, and ends with a part of a batch of 400.
func tornIn(t *testing.T, options ...func(*broker.Config)) (*brokertest.Host, []event.Event) {
	t.Helper()
	brokertest.OnlyOurs(t, "a limit of its engine's store, which a restart takes off")
	h := brokertest.Start(t, options...)
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
		st, err := h.Client.Admin().State(t.Context())
		require.NoError(t, err)
		return st.Last > 2 && st.Last < 401
	}
	require.Eventually(t, torn, 20*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-appended, client.ErrUnknownOutcome)
	require.True(t, torn())
	return h, batch
}

// stagedIn is where the engine has the one batch that is staged.
func stagedIn(t *testing.T, h *brokertest.Host) string {
	t.Helper()
	found, err := blocks.Glob(h.Config.Dir, filepath.Join(broker.StoreDir, engine.StoreDir, "*", engine.StreamsDir, "*", engine.BatchesDir, "*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// refusedBehindPart: appends of any id are refused, and reads go on without the part.
func refusedBehindPart(t *testing.T, h *brokertest.Host, batch []event.Event) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 20*time.Second, time.Millisecond)
	was, err := h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.Less(t, was.Last, event.Sequence(401))
	_, err = h.Client.Append(t.Context(), newEvent("2"))
	require.ErrorIs(t, err, client.ErrTornBatch)
	require.ErrorContains(t, err, "position 2 to")
	require.ErrorContains(t, err, "doctor --fix")
	_, err = h.Client.AppendBatch(t.Context(), batch)
	require.ErrorIs(t, err, client.ErrTornBatch)
	require.Len(t, all(t, h), 1)
	st, err := h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.Equal(t, was.Last, st.Last)
	require.Contains(t, h.Broker.Torn(), "a part of a batch")
}

// A Log that ends with a part of a batch of which the rest has gone takes nothing behind it,
// at any start, with and without a watch over the disk.
func TestNothingIsStoredBehindAPartOfABatch(t *testing.T) {
	t.Parallel()
	for name, floor := range map[string]int64{"watched": 1, "not watched": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, batch := tornIn(t, func(c *broker.Config) { c.DiskFloor = floor })
			h.Stop(t)
			require.NoError(t, os.RemoveAll(stagedIn(t, h)))
			for range 2 {
				h.Boot(t)
				refusedBehindPart(t, h, batch)
				h.Stop(t)
			}
		})
	}
}

// What is staged of a batch outlives an engine that could not complete the batch from it.
func TestTheRestOfABatchIsKeptUntilTheBatchIsWhole(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]func(t *testing.T, h *brokertest.Host, harm func(string)){
		"at the start of the host": func(t *testing.T, h *brokertest.Host, harm func(string)) {
			h.Stop(t)
			harm(stagedIn(t, h))
			h.Boot(t)
		},
		"at a restart of the engine": func(t *testing.T, h *brokertest.Host, harm func(string)) {
			harm(stagedIn(t, h))
			h.Broker.RestartEngine()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, batch := tornIn(t, func(c *broker.Config) { c.DiskFloor = 1 })
			kept := t.TempDir()
			restart(t, h, func(staged string) { // a message in its middle cannot be read
				require.NoError(t, os.CopyFS(kept, os.DirFS(staged)))
				files, err := blocks.List(filepath.Join(staged, engine.MessagesDir))
				require.NoError(t, err)
				require.Len(t, files, 1)
				f, err := os.OpenFile(files[0].Path, os.O_WRONLY, 0)
				require.NoError(t, err)
				_, err = f.WriteAt([]byte("damage"), files[0].Size/2)
				require.NoError(t, errors.Join(err, f.Close()))
			})
			refusedBehindPart(t, h, batch)
			aside, err := blocks.Glob(h.Config.Dir, filepath.Join(broker.AsideDir, "*"))
			require.NoError(t, err)
			require.Len(t, aside, 1)

			h.Stop(t)
			require.NoError(t, os.RemoveAll(aside[0]))
			require.NoError(t, os.CopyFS(aside[0], os.DirFS(kept)))
			h.Boot(t)
			again, err := h.Client.AppendBatch(t.Context(), batch)
			require.NoError(t, err)
			require.EqualValues(t, 2, again[0].Seq)
			require.Len(t, all(t, h), 401)
			require.Empty(t, h.Broker.Torn())
			require.NoDirExists(t, filepath.Join(h.Config.Dir, broker.AsideDir))
		})
	}
}
