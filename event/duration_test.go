package event_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// The values that wrap round as a time.Duration: to something negative, to nothing, and to
// a length that looks reasonable.
var wrapping = []int64{event.MaxMillis + 1, 1 << 53, 18_446_744_073_709, 18_446_744_073_710, 1 << 60, math.MaxInt64}

func TestMillis(t *testing.T) {
	t.Parallel()
	for _, ms := range []int64{0, 1, 60_000, event.MaxMillis} {
		d, err := event.Millis("lease_ms", ms)
		require.NoError(t, err)
		require.Equal(t, ms, d.Milliseconds())
		require.Equal(t, d, event.StoredMillis(ms))
	}
	for _, ms := range append([]int64{-1, math.MinInt64}, wrapping...) {
		_, err := event.Millis("lease_ms", ms)
		requireInvalid(t, err, "lease_ms", "must be milliseconds from 0 to 9223372036854")
		require.ErrorContains(t, err, strconv.FormatInt(ms, 10))
	}
}

func TestStoredMillisSaturates(t *testing.T) {
	t.Parallel()
	for _, ms := range wrapping {
		require.Greater(t, event.StoredMillis(ms), 292*365*24*time.Hour)
		require.Less(t, event.StoredMillis(-ms), -292*365*24*time.Hour)
		require.Less(t, event.StoredMillis(math.MinInt64), time.Duration(0))
		require.EqualValues(t, math.MaxInt64, event.LaterMillis(ms, math.MaxInt64))
	}
	require.EqualValues(t, 7, event.LaterMillis(5, 2))
	require.EqualValues(t, -3, event.LaterMillis(-5, 2))
}
