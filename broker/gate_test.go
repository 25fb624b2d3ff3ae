package broker

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/longtest"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// gated are three nodes, and a client and a bare connection of an agent on each.
func gated(t *testing.T, without bool) (clients []*client.Client, bare []jetstream.JetStream) {
	_, clients, bare = gatedNodes(t, without)
	return clients, bare
}

func gatedNodes(t *testing.T, without bool, configure ...func(*Config)) (nodes []*Broker, clients []*client.Client, bare []jetstream.JetStream) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	key, err := roles.Make("agent", roles.Agent, path)
	require.NoError(t, err)
	cfgs := clusterOf(t, 3)
	for i := range cfgs {
		cfgs[i].Keys, cfgs[i].AnyHeaders = []Key{KeyOf(key)}, without
		for _, f := range configure {
			f(&cfgs[i])
		}
	}
	nodes = upAll(t, cfgs)
	for _, b := range nodes {
		nc, err := client.Connect(t.Context(), client.Target{Servers: []string{b.ClientURL()}, NKey: path}, nats.IgnoreDiscoveredServers())
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		js, err := jetstream.NewWithAPIPrefix(nc, roles.APIPrefix)
		require.NoError(t, err)
		clients, bare = append(clients, c), append(bare, js)
	}
	return nodes, clients, bare
}

// stopping is the message that stops a replicated stream for good.
func stopping() *nats.Msg {
	m := nats.NewMsg(wire.EventSubject("a.b", "s"))
	m.Header.Set(jetstream.ExpectedLastMsgIDHeader, "another")
	return m
}

func appendWithin(t *testing.T, c *client.Client, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := c.Append(ctx, event.Event{Type: "task.created", Actor: "a"})
	return err
}

// What stops a cluster's Log does not reach it with an agent's key: neither alone, nor in a
// batch, nor through any node; what clients send does, in order and all or nothing.
func TestGate(t *testing.T) {
	t.Parallel()
	clients, bare := gated(t, false)
	for i, c := range clients {
		require.NoError(t, appendWithin(t, c, time.Minute))
		_, err := bare[i].PublishMsg(t.Context(), stopping())
		var refused *jetstream.APIError
		require.ErrorAs(t, err, &refused)
		require.EqualValues(t, 400, refused.Code)
		require.Contains(t, refused.Description, jetstream.ExpectedLastMsgIDHeader)

		before, err := c.Position(t.Context())
		require.NoError(t, err)
		for n := range 2 { // a batch of two, the first of which is refused
			m := stopping()
			if n == 1 {
				m.Header = nats.Header{wire.HeaderBatchCommit: {"1"}}
			}
			m.Header.Set(wire.HeaderBatchID, "batch")
			m.Header.Set(wire.HeaderBatchSequence, []string{"1", "2"}[n])
			_, err = bare[i].PublishMsg(t.Context(), m)
			require.ErrorAs(t, err, &refused)
		}
		require.NoError(t, bare[i].Conn().PublishMsg(stopping())) // without a reply
		_, err = c.AppendBatch(t.Context(), []event.Event{{Type: "task.created", Actor: "a"}, {Type: "task.completed", Actor: "a"}})
		require.NoError(t, err)
		after, err := c.Position(t.Context())
		require.NoError(t, err)
		require.Equal(t, before+2, after, "and nothing else was stored")
	}
	for _, c := range clients {
		require.NoError(t, appendWithin(t, c, time.Minute))
	}
	large := make([]event.Event, 999)
	for i := range large {
		large[i] = event.Event{Type: "task.created", Actor: "a", Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("x", 1000))}
	}
	for range longtest.Pick(2, 5) {
		_, err := clients[0].AppendBatch(t.Context(), large)
		require.NoError(t, err)
	}
}

// The control: without the gate an agent's message stops the Log. When this fails the
// engine has repaired it.
func TestWithoutGate(t *testing.T) {
	t.Parallel()
	clients, bare := gated(t, true)
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	_, err := bare[0].PublishMsg(ctx, stopping())
	require.Error(t, err)
	require.Error(t, appendWithin(t, clients[1], 8*time.Second), "the Log goes on")
}
