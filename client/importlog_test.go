package client_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/projection"
)

// What decided nothing in the log that it comes from decides nothing here, and what was
// open there may be decided here.
func TestImportLog(t *testing.T) {
	t.Parallel()
	from := brokertest.Start(t)
	for _, id := range []string{"cp_open", "cp_done"} {
		_, err := from.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{
			ID: id, StreamID: "s", RequestedBy: "agent/x", DecisionPoint: "why?", Options: []event.Option{{ID: "yes", Label: "yes"}},
		})
		require.NoError(t, err)
	}
	_, err := from.Client.Checkpoints().Approve(t.Context(), "cp_done", client.Approval{By: "alice", Option: "yes"})
	require.NoError(t, err)
	var events []event.Recorded
	for r, err := range from.Client.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		events = append(events, r)
	}
	require.Len(t, events, 3)
	bare := events[2] // written by a program that bypassed the guard
	bare.ID, bare.Type, bare.Guard = "bare", event.CheckpointRejected, ""
	var payload map[string]any
	require.NoError(t, json.Unmarshal(bare.Payload, &payload))
	bare.Payload, err = json.Marshal(payload)
	require.NoError(t, err)
	events = append(events[:2:2], bare, events[2])

	to := brokertest.Start(t)
	for _, want := range []client.ImportReport{{Stored: 4}, {Present: 4}} {
		report, err := to.Client.Admin().ImportLog(t.Context(), "log", events, nil)
		require.NoError(t, err)
		require.Equal(t, want, report)
	}
	done, err := to.Client.Checkpoints().Get(t.Context(), "cp_done")
	require.NoError(t, err)
	require.Equal(t, projection.Approved, done.Status)
	open, err := to.Client.Checkpoints().Get(t.Context(), "cp_open")
	require.NoError(t, err)
	require.Equal(t, projection.Pending, open.Status)
	open, err = to.Client.Checkpoints().Approve(t.Context(), "cp_open", client.Approval{By: "bob", Option: "yes"})
	require.NoError(t, err)
	require.Equal(t, projection.Approved, open.Status)
}
