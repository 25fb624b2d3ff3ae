package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryLimitFollowsWhatIsHeld(t *testing.T) {
	t.Parallel()
	follow := func(limit, held int64) int64 {
		for range 50 {
			limit = nextLimit(limit, held)
		}
		return limit
	}
	require.EqualValues(t, hostMemory, follow(hostMemory, 20<<20))
	busy := follow(hostMemory, 500<<20)
	require.Greater(t, busy, int64(500<<20)/3*4-1, "a third of what is held is free")
	require.Less(t, busy, int64(1000<<20))
	require.EqualValues(t, hostMemory, follow(busy, 20<<20), "it comes down again")
}
