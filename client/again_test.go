package client_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

// A batch with a decision and an end in it, appended again under the same ids as
// ErrUnknownOutcome asks for, answers as it was first recorded.
func TestAGuardedBatchAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	ctx := t.Context()
	_, err := h.Client.Checkpoints().Request(ctx, client.CheckpointRequest{ID: "cp", StreamID: "s", RequestedBy: "agent", DecisionPoint: "go?"})
	require.NoError(t, err)
	batch := []event.Event{
		{ID: "1", Type: "task.created", StreamID: "s", Actor: "a"},
		{ID: "2", Type: event.CheckpointApproved, StreamID: "s", Actor: "ann", Payload: []byte(`{"checkpoint_id":"cp"}`)},
		{ID: "3", Type: event.AgentSpawned, StreamID: "s", Actor: "a", Payload: []byte(`{"id":"i"}`)},
		{ID: "4", Type: event.AgentCompleted, StreamID: "s", Actor: "a", Payload: []byte(`{"intent_id":"i"}`)},
	}
	first, err := h.Client.AppendBatch(ctx, batch)
	require.NoError(t, err)
	position, err := h.Client.Position(ctx)
	require.NoError(t, err)
	again, err := h.Client.AppendBatch(ctx, batch)
	require.NoError(t, err)
	for i := range first {
		require.Equal(t, first[i].Seq, again[i].Seq)
		require.Equal(t, first[i].ID, again[i].ID)
	}
	after, err := h.Client.Position(ctx)
	require.NoError(t, err)
	require.Equal(t, position, after)

	// The same decision in another batch is not that batch.
	_, err = h.Client.AppendBatch(ctx, []event.Event{{ID: "5", Type: "task.created", StreamID: "s", Actor: "a"}, batch[1]})
	require.Error(t, err)
	_, err = h.Client.AppendBatch(ctx, []event.Event{batch[1], {ID: "6", Type: "task.created", StreamID: "s", Actor: "a"}})
	require.Error(t, err)
	after, err = h.Client.Position(ctx)
	require.NoError(t, err)
	require.Equal(t, position, after)
}
