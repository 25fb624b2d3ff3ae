package broker_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// A store that was taken away is told as that, and not as one that a repair mends, where
// the look for damage is the first to meet it.
func TestTakenAwayIsNotDamaged(t *testing.T) {
	t.Parallel()
	said := &brokertest.Words{}
	cfg := broker.Config{Dir: t.TempDir(), DiskFloor: -1, Logger: slog.New(slog.NewTextHandler(said, nil))}
	b, err := broker.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	nc, err := b.Connect() // not advertised: nothing but the look for damage goes on
	require.NoError(t, err)
	defer nc.Close()
	for range 30 {
		_, err := nc.Request("events.task.created.s", []byte("{}"), 5*time.Second)
		require.NoError(t, err)
	}
	_, err = nc.Request(wire.CheckSubject(""), nil, 10*time.Second) // it has been seen once
	require.NoError(t, err)
	brokertest.RemoveAll(t, cfg.Dir)
	select {
	case <-b.Evicted():
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on without its store: ", said)
	}
	var taken *broker.EvictedError
	require.ErrorAs(t, b.WhyEvicted(), &taken)
	require.NotContains(t, said.String(), "doctor", "no repair is offered")
}
