package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
)

// Everything that is a bounded read: each is asked right after what it must see.
func TestBoundedReadsOnACluster(t *testing.T) {
	t.Parallel()
	_, nc := brokertest.StartLagging(t, 15*time.Millisecond)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	ctx := t.Context()
	for i := range longtest.Pick(3, 10) {
		q, err := c.Checkpoints().Request(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "agent", DecisionPoint: "?"})
		require.NoError(t, err)
		pending, err := c.Checkpoints().List(ctx, true)
		require.NoError(t, err)
		require.Len(t, pending, 1, "round %d", i)
		_, err = c.Checkpoints().Approve(ctx, q.ID, client.Approval{By: "human"})
		require.NoError(t, err)
		pending, err = c.Checkpoints().List(ctx, true)
		require.NoError(t, err)
		require.Empty(t, pending, "round %d", i)

		x, err := c.Intents().Create(ctx, client.IntentSpec{StreamID: "s", Actor: "agent"})
		require.NoError(t, err)
		active, err := c.Intents().List(ctx, true)
		require.NoError(t, err)
		require.Len(t, active, 1, "round %d", i)
		l, err := c.Intents().Claim(ctx, x.ID, "w", time.Minute)
		require.NoError(t, err)
		_, err = c.Intents().Complete(ctx, x.ID, client.End{By: "w", Token: l.Token})
		require.NoError(t, err)
		r, err := c.Resume(ctx)
		require.NoError(t, err)
		require.Empty(t, r.ActiveIntents, "round %d", i)

		last, err := c.Append(ctx, event.Event{Type: "task.created", Actor: "a", StreamID: "s"})
		require.NoError(t, err)
		for got, err := range c.Query(ctx, event.Filter{StreamID: "s", Last: 1}) {
			require.NoError(t, err)
			require.Equal(t, last.ID, got.ID, "round %d", i)
		}
	}
}

func TestOnlyAQueryIsLinearizable(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for _, err := range h.Client.Subscribe(t.Context(), event.Filter{Linearizable: true}) {
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "linearizable", invalid.Field)
	}
}
