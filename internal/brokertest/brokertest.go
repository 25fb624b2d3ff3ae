// Package brokertest starts real brokers for tests.
package brokertest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
)

// Host is a broker in a directory of its own, with a client over TCP that follows
// it through restarts.
type Host struct {
	Config broker.Config
	Broker *broker.Broker
	Conn   *nats.Conn
	Client *client.Client

	admin   jetstream.JetStream
	adminOf *broker.Broker
}

// Start starts a host in a new directory; it ends with the test.
func Start(t testing.TB, configure ...func(*broker.Config)) *Host {
	t.Helper()
	h := &Host{Config: broker.Config{Dir: filepath.Join(t.TempDir(), "durable_stream")}}
	for _, f := range configure {
		f(&h.Config)
	}
	h.Boot(t)
	h.Conn = h.Connect(t)
	h.Client = h.NewClient(t, client.Config{})
	t.Cleanup(func() { require.NoError(t, h.Broker.Stop(context.Background())) })
	return h
}

// Boot starts the broker, as at first or after Kill, and writes its address.
func (h *Host) Boot(t testing.TB) {
	t.Helper()
	var err error
	h.Broker, err = broker.Start(t.Context(), h.Config)
	require.NoError(t, err)
	require.NoError(t, h.Broker.Advertise())
}

// Restart stops the broker in an orderly way and starts it again, on another port.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	require.NoError(t, h.Broker.Stop(t.Context()))
	h.Boot(t)
}

// Connect makes one more connection, closed when the test ends.
func (h *Host) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(h.Config.Dir)})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// Admin is the engine's own API, over a connection within the broker's process: it
// sees what the tests' clients did, and does what they may not. It is for this run
// of the broker.
func (h *Host) Admin(t testing.TB) jetstream.JetStream {
	t.Helper()
	if h.adminOf == h.Broker {
		return h.admin
	}
	nc, err := h.Broker.Connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	h.admin, h.adminOf = js, h.Broker
	return js
}

// NewClient makes one more client over a connection of its own.
func (h *Host) NewClient(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	cfg.Restoring = cfg.Restoring || h.Config.Restoring
	c, err := client.New(t.Context(), h.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
