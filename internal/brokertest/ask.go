package brokertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/projection"
)

// Ask makes a checkpoint with the options yes and no, asked by "agent" in "ses".
func Ask(t testing.TB, c *client.Client, change ...func(*client.CheckpointRequest)) projection.Checkpoint {
	t.Helper()
	q := client.CheckpointRequest{
		StreamID: "ses", RequestedBy: "agent", DecisionPoint: "deploy?",
		Options: []event.Option{{ID: "yes", Label: "Yes"}, {ID: "no", Label: "No"}},
	}
	for _, f := range change {
		f(&q)
	}
	cp, err := c.Checkpoints().Request(t.Context(), q)
	require.NoError(t, err)
	return cp
}
