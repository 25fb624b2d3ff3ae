package mirror

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// A log with voided guards is restored with what was decided, and with what can be.
func TestRestoreOfVoidedGuards(t *testing.T) {
	t.Parallel()
	old := brokertest.Start(t)
	for _, id := range []string{"decided", "open"} {
		_, err := old.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{ID: id, StreamID: "s", RequestedBy: "a", DecisionPoint: "?"})
		require.NoError(t, err)
		guard(t, old, wire.GuardSubject(event.GuardCheckpoint, id))
		_, err = old.Client.Admin().VoidGuard(t.Context(), id, "op", "")
		require.NoError(t, err)
	}
	was, err := old.Client.Checkpoints().Reject(t.Context(), "decided", client.Rejection{By: "h", Reason: "no"})
	require.NoError(t, err)
	cfg := configOf(t, old)
	catchUp(t, cfg)
	requireEqual(t, cfg)

	h := brokertest.Start(t)
	_, err = Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.NoError(t, err)
	now, err := h.Client.Checkpoints().Get(t.Context(), "decided")
	require.NoError(t, err)
	require.Equal(t, was.Decision, now.Decision)
	all, err := h.Client.Checkpoints().List(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, now, all[0])
	_, err = h.Client.Checkpoints().Approve(t.Context(), "decided", client.Approval{By: "h"})
	require.ErrorIs(t, err, client.ErrDecided)
	now, err = h.Client.Checkpoints().Approve(t.Context(), "open", client.Approval{By: "h"})
	require.NoError(t, err)
	require.Equal(t, projection.Approved, now.Status)
	_, err = h.Client.Checkpoints().Reject(t.Context(), "open", client.Rejection{By: "h", Reason: ""})
	require.ErrorIs(t, err, client.ErrDecided)
}

// What was imported is known as that in a restored log too, though the import's guard is
// not in the mirror.
func TestRestoredImportsStayMarked(t *testing.T) {
	t.Parallel()
	old := brokertest.Start(t)
	_, err := old.Client.Admin().Import(t.Context(), "x", []event.Event{
		{ID: "e1", Type: event.CheckpointRequested, StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1), Payload: []byte(`{"id":"cp_1","decision_point":"?"}`)},
		{ID: "e2", Type: event.AgentSpawned, StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1), Payload: []byte(`{"id":"i_1"}`)},
	}, nil)
	require.NoError(t, err)
	cfg := configOf(t, old)
	catchUp(t, cfg)
	h := brokertest.Start(t)
	_, err = Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.NoError(t, err)
	for _, c := range []*client.Client{old.Client, h.Client} {
		r, err := c.Resume(t.Context())
		require.NoError(t, err)
		require.Len(t, r.PendingCheckpoints, 1)
		require.True(t, r.PendingCheckpoints[0].Imported)
		require.Len(t, r.ActiveIntents, 1)
		require.True(t, r.ActiveIntents[0].Imported)
	}
}
