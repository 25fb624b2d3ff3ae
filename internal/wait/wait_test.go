package wait_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/wait"
)

func TestForWaitsForTheTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		require.NoError(t, wait.For(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(begun))
	})
}

func TestForEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, wait.For(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begun))

		// A context that has ended always wins, also over a time that has passed.
		for range 100 {
			require.ErrorIs(t, wait.For(ctx, 0), context.DeadlineExceeded)
			require.ErrorIs(t, wait.For(ctx, -time.Second), context.DeadlineExceeded)
		}
		require.Equal(t, time.Second, time.Since(begun))
	})
}

// pauses are how long each of n attempts waits.
func pauses(t *testing.T, b *wait.Backoff, n int) (all []time.Duration) {
	t.Helper()
	for range n {
		begun := time.Now()
		require.NoError(t, b.Wait(t.Context()))
		all = append(all, time.Since(begun))
	}
	return all
}

func TestBackoffDoublesUpToItsMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		b := wait.Backoff{First: 5 * ms, Most: 30 * ms}
		require.Equal(t, []time.Duration{5 * ms, 10 * ms, 20 * ms, 30 * ms, 30 * ms}, pauses(t, &b, 5))
		b.Reset()
		require.Equal(t, []time.Duration{5 * ms, 10 * ms}, pauses(t, &b, 2))

		var zero wait.Backoff
		require.Equal(t, []time.Duration{2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 250 * ms, 250 * ms}, pauses(t, &zero, 9))
	})
}

func TestBackoffEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		b := wait.Backoff{First: time.Second, Most: time.Hour}
		begun := time.Now()
		require.NoError(t, b.Wait(ctx))
		require.ErrorIs(t, b.Wait(ctx), context.DeadlineExceeded)
		require.Equal(t, 2500*time.Millisecond, time.Since(begun))
	})
}
