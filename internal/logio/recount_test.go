package logio_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// A cluster's consumer that brings fewer messages than it was to bring has left one out, or
// its replica has fewer than it had: what it should have brought is counted.
func TestFewerMessagesThanWereDue(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	events := numbered(20)
	for i := range events {
		if i%2 == 0 {
			events[i].Type = "other.event"
		}
	}
	_, err := h.Client.AppendBatch(t.Context(), events)
	require.NoError(t, err)
	c := open(t, h.Connect(t), logio.Config{})
	c.InACluster()
	subjects := wire.FilterSubjects(event.Filter{Types: []string{"test.*"}})
	const after, at, brought = 4, 16, 6
	require.ErrorIs(t, c.Suspect(t.Context(), subjects, after, at, brought), logio.ErrStalled)
	require.ErrorIs(t, c.Suspect(t.Context(), subjects, after, after, 0), logio.ErrStalled)
	require.ErrorIs(t, c.Suspect(t.Context(), subjects, 0, 0, 0), logio.ErrStalled)
	err = c.Suspect(t.Context(), subjects, after, at, brought-1)
	require.Equal(t, &event.DamageError{From: after + 1, To: at, Node: "n1"}, err)
}
