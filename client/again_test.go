package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/projection"
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

// A call that names its event and is sent twice is stored once, and answered as the first
// time: also under a lease whose token is stale by then.
func TestCallsSentTwice(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t).Client
	count := func() int {
		n := 0
		for _, err := range c.Query(t.Context(), event.Filter{}) {
			require.NoError(t, err)
			n++
		}
		return n
	}
	twice := func(name string, call func(eventID string) (any, error)) {
		t.Helper()
		id, before := event.NewID(), count()
		first, err := call(id)
		require.NoError(t, err, name)
		again, err := call(id)
		require.NoError(t, err, name)
		require.Equal(t, first, again, name)
		require.Equal(t, before+1, count(), name)
	}
	twice("create", func(id string) (any, error) {
		return c.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses_1", Actor: "agent/a", Description: "x", EventID: id})
	})
	for _, ends := range []func(context.Context, string, client.End) (projection.Intent, error){c.Intents().Complete, c.Intents().Fail, c.Intents().Abort} {
		i, err := c.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses_1", Actor: "agent/a"})
		require.NoError(t, err)
		l, err := c.Intents().Claim(t.Context(), i.ID, "agent/b", time.Minute)
		require.NoError(t, err)
		twice("end", func(id string) (any, error) {
			return ends(t.Context(), i.ID, client.End{By: "agent/b", Token: l.Token, Reason: "r", EventID: id})
		})
		_, err = ends(t.Context(), i.ID, client.End{By: "agent/b", Token: l.Token, Reason: "r"})
		require.ErrorIs(t, err, client.ErrIntentEnded, "another call")
	}
	ask := func() string {
		cp, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{StreamID: "ses_1", RequestedBy: "agent/a", DecisionPoint: "?"})
		require.NoError(t, err)
		return cp.ID
	}
	cp := ask()
	twice("approve", func(id string) (any, error) {
		return c.Checkpoints().Approve(t.Context(), cp, client.Approval{By: "user", Comment: "fine", EventID: id})
	})
	_, err := c.Checkpoints().Approve(t.Context(), cp, client.Approval{By: "user"})
	require.ErrorIs(t, err, client.ErrDecided, "another call")
	cp = ask()
	twice("reject", func(id string) (any, error) {
		return c.Checkpoints().Reject(t.Context(), cp, client.Rejection{By: "user", Reason: "no", EventID: id})
	})
	cp = ask()
	twice("cancel", func(id string) (any, error) {
		return c.Checkpoints().Cancel(t.Context(), cp, client.Cancellation{By: "user", Reason: "no", EventID: id})
	})
	id := event.NewID()
	cp = ask()
	_, err = c.Checkpoints().Approve(t.Context(), cp, client.Approval{By: "user", EventID: id})
	require.NoError(t, err)
	_, err = c.Checkpoints().Approve(t.Context(), cp, client.Approval{By: "user", Comment: "something else", EventID: id})
	require.ErrorIs(t, err, client.ErrDuplicateID)
}

func TestCallsSentTwiceAtOnce(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t).Client
	cp, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{StreamID: "ses_1", RequestedBy: "agent/a", DecisionPoint: "?"})
	require.NoError(t, err)
	i, err := c.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses_1", Actor: "agent/a"})
	require.NoError(t, err)
	decision, end := event.NewID(), event.NewID()
	errs := make(chan error, 16)
	for range 8 {
		go func() {
			_, err := c.Checkpoints().Approve(t.Context(), cp.ID, client.Approval{By: "user", EventID: decision})
			errs <- err
		}()
		go func() {
			_, err := c.Intents().Complete(t.Context(), i.ID, client.End{By: "agent/a", EventID: end})
			errs <- err
		}()
	}
	for range 16 {
		require.NoError(t, <-errs)
	}
}
