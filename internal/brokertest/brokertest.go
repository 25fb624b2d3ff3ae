// Package brokertest starts real brokers for tests.
package brokertest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// Host is a broker in a directory of its own, with a client over TCP that follows
// it through restarts. With ServerVariable set it is servers that are not ours:
// Broker is nil then, and of Config only DuplicateWindow counts.
type Host struct {
	Config broker.Config
	Broker *broker.Broker
	Conn   *nats.Conn
	Client *client.Client

	plain   *plain // instead of Broker: see ServerVariable
	admin   jetstream.JetStream
	adminOf *broker.Broker
}

// Start starts a host in a new directory; it ends with the test.
func Start(t testing.TB, configure ...func(*broker.Config)) *Host {
	t.Helper()
	project := filepath.Join(t.TempDir(), "[id] *") // a name like a pattern
	require.NoError(t, os.Mkdir(project, 0o700))
	h := &Host{Config: broker.Config{Dir: filepath.Join(project, "durable_stream")}}
	for _, f := range configure {
		f(&h.Config)
	}
	h.plain = newPlain(t, t.TempDir())
	h.Boot(t)
	h.Conn = h.Connect(t)
	h.Client = h.NewClient(t, client.Config{})
	if h.plain == nil {
		t.Cleanup(func() { require.NoError(t, h.Broker.Stop(context.Background())) })
	}
	return h
}

// Boot starts the broker, as at first or after Kill, and writes its address.
func (h *Host) Boot(t testing.TB) {
	t.Helper()
	if h.plain != nil {
		h.plain.boot(t, h.Config)
		return
	}
	var err error
	h.Broker, err = broker.Start(t.Context(), h.Config)
	require.NoError(t, err)
	require.NoError(t, h.Broker.Advertise())
}

// OnlyOurs skips a test that is about the broker of this project, where the hosts are
// others; why says what of it they do not have.
func OnlyOurs(t testing.TB, why string) {
	t.Helper()
	if mode := os.Getenv(ServerVariable); mode != "" {
		t.Skipf("%s=%s: %s", ServerVariable, mode, why)
	}
}

// Stop stops the broker in an orderly way; of a cluster, all nodes.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	if h.plain != nil {
		h.plain.stop()
		return
	}
	require.NoError(t, h.Broker.Stop(context.WithoutCancel(t.Context()))) // also in a Cleanup
}

// Wipe removes all that a stopped broker has stored.
func (h *Host) Wipe(t testing.TB) {
	t.Helper()
	if h.plain != nil {
		h.plain.wipe(t)
		return
	}
	require.NoError(t, os.RemoveAll(filepath.Join(h.Config.Dir, broker.StoreDir)))
	// Where the log was, a host makes another one only in a directory that knows of none.
	if err := os.Remove(filepath.Join(h.Config.Dir, broker.HomeFile)); !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
}

// Restart stops the broker in an orderly way and starts it again, on another port;
// of a cluster, the node that leads the Log.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	if h.plain != nil {
		h.plain.restart(t, h.Config)
		return
	}
	h.Stop(t)
	h.Boot(t)
}

// RecreateLog makes the empty Log again, to begin at first.
func (h *Host) RecreateLog(ctx context.Context, first event.Sequence) error {
	if h.plain == nil {
		return h.Broker.RecreateLog(ctx, first)
	}
	js, err := jetstream.New(h.Conn)
	if err != nil {
		return err
	}
	return wire.RecreateLog(ctx, js, first, nil)
}

// CreateLog makes a Log after another was deleted. Once a stream is gone the engine
// tidies the directories above it, in a goroutine, and a stream that is made just then
// finds no place: 500, error creating store for stream (nats-server v2.15.2,
// stream.stop).
func CreateLog(t testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) (s jetstream.Stream) {
	t.Helper()
	require.Eventually(t, func() bool {
		made, err := js.CreateStream(t.Context(), cfg)
		if err != nil {
			t.Log("making a Log:", err)
		}
		s = made
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	return s
}

// Connect makes one more connection, closed when the test ends.
func (h *Host) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	target := client.Target{AddressFile: broker.AddressPath(h.Config.Dir)}
	if h.plain != nil {
		target = client.Target{Servers: h.plain.urls()}
	}
	nc, err := client.Connect(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// Admin is the engine's own API, over a connection within the broker's process: it
// sees what the tests' clients did, and does what they may not. It is for this run
// of the broker.
func (h *Host) Admin(t testing.TB) jetstream.JetStream {
	t.Helper()
	if h.admin != nil && h.adminOf == h.Broker {
		return h.admin
	}
	var nc *nats.Conn
	if h.plain != nil {
		nc = h.Connect(t)
	} else {
		var err error
		nc, err = h.Broker.Connect()
		require.NoError(t, err)
		t.Cleanup(nc.Close)
	}
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
