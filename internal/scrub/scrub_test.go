package scrub_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/scrub"
)

// A node's engine that was not stopped in order is at its last Sequence for a moment, then
// cuts its files back to its newest snapshot, and stores the rest again from its raft log.
// That is no damage, at whatever moment the scrub looks; what stays away is.
func TestScrubWhileANodeReplays(t *testing.T) {
	t.Parallel()
	const all, kept = 20, 14
	host := t.TempDir()
	b, err := broker.Start(t.Context(), broker.Config{Dir: host, DiskFloor: -1})
	require.NoError(t, err)
	nc, err := b.Connect()
	require.NoError(t, err)
	for range all {
		_, err := nc.Request("events.task.created.s", []byte("{}"), 5*time.Second)
		require.NoError(t, err)
	}
	nc.Close()
	require.NoError(t, b.Stop(t.Context()))
	stores, err := blocks.Find(filepath.Join(host, broker.StoreDir))
	require.NoError(t, err)
	dir := stores[len(stores)-1]
	files, err := blocks.List(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	whole, err := os.ReadFile(files[0].Path)
	require.NoError(t, err)
	var end int64 // of what the snapshot holds
	_, err = blocks.Walk(files[0].Path, files[0].Index, func(off int64, raw []byte, r blocks.Record) error {
		if r.Seq == kept {
			end = off + int64(len(raw))
		}
		return nil
	})
	require.NoError(t, err)

	type step struct {
		last event.Sequence // that the engine says, before
		size int64          // that the file has when it is read
	}
	full := int64(len(whole))
	for name, c := range map[string]struct {
		looks   []step // the last one goes on
		damaged bool
		again   bool // the look says nothing yet
	}{
		"cut back, and stored again before the second look":  {looks: []step{{all, end}, {all, full}}},
		"cut back, and half of it is stored at the second":   {looks: []step{{all, end}, {kept, end}}},
		"cut back under the first look and under the second": {looks: []step{{all, end}, {all, end}, {kept, end}}, again: true},
		"cut off for good": {looks: []step{{all, end}}, damaged: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			found, err := scrub.Find(t.Context(), scrub.Store{Blocks: dir, Node: "n", Logger: slog.New(slog.DiscardHandler)}, func() (scrub.Bounds, error) {
				now := c.looks[min(n, len(c.looks)-1)]
				n++
				require.NoError(t, os.WriteFile(files[0].Path, whole[:now.size], 0o600))
				return scrub.Bounds{First: 1, Last: now.last, Messages: uint64(now.last)}, nil
			})
			if c.again {
				require.ErrorContains(t, err, "set this node's copy of the log back from 20 to 14")
				return
			}
			require.NoError(t, err)
			if !c.damaged {
				require.Empty(t, found.Damage)
				return
			}
			require.Len(t, found.Damage, 1)
			require.Equal(t, event.Range{From: kept + 1, To: all}, found.Damage[0].Range)
		})
	}
}
