package logio_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// A move that is stored is not lost because the engine refuses it, nor because others have
// moved the guard on since.
func TestRefusedMoveThatIsStored(t *testing.T) {
	t.Parallel()
	c := open(t, brokertest.Start(t).Connect(t), logio.Config{})
	at := []event.Sequence{0}
	for _, mark := range []string{"one", "two", "three", "four"} {
		seq, err := c.MoveGuard(t.Context(), "g", at[len(at)-1], mark)
		require.NoError(t, err)
		at = append(at, seq)
		_, err = c.Append(t.Context(), newEvent("{}"))
		require.NoError(t, err)
	}
	for i, mark := range []string{"one", "two", "three", "four"} {
		seq, err := c.MoveGuard(t.Context(), "g", at[i], mark)
		require.NoError(t, err)
		require.Equal(t, at[i+1], seq)
	}
	_, err := c.MoveGuard(t.Context(), "g", at[1], "another")
	var conflict *event.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, at[4], conflict.Seq)
	_, err = c.MoveGuard(t.Context(), "g", at[2], "two")
	require.ErrorAs(t, err, &conflict, "the same mark from another position is another move")
}

// On one host a refusal is one; in a cluster the append may be stored all the same.
func TestRefusalOfAClusterIsNoProof(t *testing.T) {
	t.Parallel()
	c := open(t, brokertest.Start(t).Connect(t), logio.Config{})
	inFlight := &jetstream.APIError{Code: 400, ErrorCode: wire.CodeWrongLastInFlight}
	c.TrustTheReplica()
	require.False(t, c.UnsureAfter(inFlight))
	c.InACluster()
	require.True(t, c.UnsureAfter(inFlight))
}
