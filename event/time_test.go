package event

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestValidateTimestamp(t *testing.T) {
	t.Parallel()
	const wrong = 200_000_000 // the clock of a machine that was started two days ago, in 1970
	for _, ms := range []int64{0, 7, 99_999_999, 100_000_000_000, 1_796_046_000_000, 99_999_999_999_999} {
		require.NoError(t, ValidateTimestamp(time.UnixMilli(ms)), ms)
	}
	for ms, words := range map[int64]string{
		100_000_000: "seconds", 1_796_046_000: "seconds", 99_999_999_999: "seconds",
		100_000_000_000_000: "microseconds", 1_796_046_000_000_000: "microseconds", math.MaxInt64: "nanoseconds",
	} {
		err := ValidateTimestamp(time.UnixMilli(ms))
		require.ErrorContains(t, err, words)
		require.ErrorContains(t, err, "timestamp")
		require.NoError(t, validateTimestamp(ms, func() int64 { return wrong }))
	}
}
