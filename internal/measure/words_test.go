package measure

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBenchSaysWhatItMeans(t *testing.T) {
	t.Parallel()
	say := func(fsync float64) string {
		var out strings.Builder
		Report{
			Fsync: Times{P50: fsync}, Append: Times{P50: fsync + 0.05, P99: 20}, Bare: Times{P50: fsync + 0.04},
			InFlight: []Rate{{N: 1, PerSecond: 3210}, {N: 8, PerSecond: 12345}}, Batch: Rate{N: 999, PerSecond: 70000},
		}.Print(&out, "/home/dev/project", 12*time.Second)
		return out.String()
	}
	require.Contains(t, say(0.25), "An append takes 0.30 ms (1 in 100 more than 20 ms): your disk's write + fsync is 0.25 ms\nof it, the engine around it 0.04 ms, this program 0.01 ms.")
	require.Contains(t, say(0.25), "One agent that waits for each append made 3,210 a second.")
	require.Contains(t, say(0.25), "  8 appends waiting at once: 12,345 a second.")
	require.NotContains(t, say(0.25), "slow disk")
	require.Contains(t, say(12), "That is a slow disk")
	require.Contains(t, say(0.002), "too fast for a disk")
}
