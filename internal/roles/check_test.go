package roles_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/internal/wire"
)

// Who reads may ask the host whether what it read is whole; where there is no host of
// ours the server says so at once, and nobody waits.
func TestWhetherWhatWasReadIsWhole(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"agent", "operator", "admin"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		m, err := embedded(t).connect(t, key).RequestWithContext(ctx, wire.CheckSubject(""), nil)
		require.NoError(t, err, key)
		require.Equal(t, "[]", string(m.Data), key)
		for _, node := range []string{"", "n1"} {
			_, err = plain(t).connect(t, key).RequestWithContext(ctx, wire.CheckSubject(node), nil)
			require.ErrorIs(t, err, nats.ErrNoResponders, "%s %q", key, node)
		}
	}
}
