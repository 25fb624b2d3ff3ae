package hosting

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryLimitFollowsWhatCollectingCosts(t *testing.T) {
	t.Parallel()
	limit := nextLimit(hostMemory, 0.05)
	require.EqualValues(t, hostMemory, limit)
	for range 5 {
		limit = nextLimit(limit, 0.5)
	}
	require.Greater(t, limit, int64(4*hostMemory), "it rises within seconds where it hurts")
	require.Equal(t, limit, nextLimit(limit, 0.1), "and stays where it does not")
	for range 50 {
		limit = nextLimit(limit, 0)
	}
	require.EqualValues(t, hostMemory, limit, "and comes down again")
}
