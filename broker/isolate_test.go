package broker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// What others published before they were cut off is stored when Isolate returns, and
// nothing of theirs comes after. The control leaves Isolate out.
func TestIsolate(t *testing.T) {
	t.Parallel()
	moved := func(isolate bool, rounds int) (moved int) {
		for range rounds {
			h := brokertest.Start(t)
			ctx, cancel := context.WithCancel(t.Context())
			var writers sync.WaitGroup
			for range 4 {
				c := h.NewClient(t, client.Config{})
				writers.Go(func() {
					for ctx.Err() == nil {
						_, _ = c.Append(ctx, newEvent("1")) // until it is cut off
					}
				})
			}
			nc, err := h.Broker.Connect()
			require.NoError(t, err)
			own, err := client.New(t.Context(), nc, client.Config{})
			require.NoError(t, err)
			require.Eventually(t, func() bool { p, err := own.Position(t.Context()); return err == nil && p > 50 }, 20*time.Second, time.Millisecond)
			if isolate {
				require.NoError(t, h.Broker.Isolate(t.Context(), nc))
			}
			end, err := own.Position(t.Context())
			require.NoError(t, err)
			own.Close()
			nc.Close()
			cancel()
			h.Restart(t)
			writers.Wait()
			now, err := h.NewClient(t, client.Config{}).Position(t.Context())
			require.NoError(t, err)
			require.GreaterOrEqual(t, now, end)
			if now > end {
				moved++
			}
		}
		return moved
	}
	require.Zero(t, moved(true, longtest.Pick(3, 10)))
	require.NotZero(t, moved(false, 10), "the control")
}

// The fence itself stores nothing.
func TestIsolateStoresNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc, err := h.Broker.Connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	require.NoError(t, h.Broker.Isolate(t.Context(), nc))
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.Zero(t, s.CachedInfo().State.LastSeq)
	require.Equal(t, nats.CONNECTED, nc.Status())
}
