package grace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/grace"
)

func TestContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		time.Sleep(2 * time.Second) // a long step
		require.False(t, grace.Canceled(ctx))
		graced, done := grace.Context(ctx, time.Minute)
		require.NoError(t, graced.Err())
		cancel() // too late to be told from the deadline
		time.Sleep(59 * time.Second)
		require.NoError(t, graced.Err())
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, graced.Err(), context.DeadlineExceeded)
		done()
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		graced, done := grace.Context(ctx, time.Minute)
		defer done()
		cancel()
		<-graced.Done()
		require.True(t, grace.Canceled(ctx))
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		graced, done := grace.Context(ctx, time.Minute)
		defer done()
		time.Sleep(2 * time.Minute)
		require.NoError(t, graced.Err(), "a longer deadline stays")
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		graced, done := grace.Context(ctx, time.Minute)
		defer done()
		cancel()
		<-graced.Done()
	})
}
