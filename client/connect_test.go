package client_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc := h.Connect(t)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	defer c.Close()

	// A subscription that waits learns of it.
	ended := make(chan error)
	go func() {
		for _, err := range c.Subscribe(t.Context(), event.Filter{}) {
			ended <- err
		}
	}()
	nc.Close()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, client.ErrClosed)
	case <-time.After(10 * time.Second):
		t.Fatal("the subscription goes on over a closed connection")
	}

	_, err = c.Append(t.Context(), newEvent("1"))
	require.ErrorIs(t, err, client.ErrClosed)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome, "it was never sent")
	_, err = c.AppendBatch(t.Context(), numbered(3))
	require.ErrorIs(t, err, client.ErrClosed)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome)
	_, err = c.Position(t.Context())
	require.ErrorIs(t, err, client.ErrClosed)
	for _, err := range c.Query(t.Context(), event.Filter{}) {
		require.ErrorIs(t, err, client.ErrClosed)
	}
	require.Zero(t, position(t, h.Client))
	c.Close()
	c.Close()
}

func TestServerWithoutALog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	require.NoError(t, js.DeleteStream(t.Context(), wire.LogName))
	began := time.Now()
	_, err := client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorIs(t, err, client.ErrNoLog)
	require.Less(t, time.Since(began), 5*time.Second, "who asks for the first time is told at once")

	cfg := wire.LogConfig(1, 0)
	for k := range cfg.Metadata {
		cfg.Metadata[k] = "99"
	}
	brokertest.CreateLog(t, js, cfg)
	_, err = client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorAs(t, err, new(*client.NewerFormatError))

	cfg = wire.LogConfig(1, 0)
	cfg.AllowAtomicPublish = false
	require.NoError(t, js.DeleteStream(t.Context(), wire.LogName))
	brokertest.CreateLog(t, js, cfg)
	_, err = client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorAs(t, err, new(*client.WeakLogError))
}

// A client with an address file needs no name service, which may take seconds to fail on
// a machine without a network.
func TestConnectAsksNoNameService(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "only a host of ours shows that an address is its own")
	h := brokertest.Start(t)
	nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(h.Config.Dir)})
	require.NoError(t, err)
	defer nc.Close()
	require.True(t, nc.Opts.SkipHostLookup)
}

func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	_, err := client.Connect(t.Context(), client.Target{AddressFile: t.TempDir() + "/address"})
	require.ErrorContains(t, err, "/address")
	_, err = client.Connect(t.Context(), client.Target{Servers: []string{"nats://127.0.0.1:1"}})
	require.ErrorContains(t, err, "nats://127.0.0.1:1")
	require.ErrorIs(t, err, nats.ErrNoServers)
}
