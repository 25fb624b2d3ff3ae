package logio_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// A host of ours that does not answer at first whether its store is whole is asked again; a
// server that is not ours is not.
func TestWhoAnswersWhetherAllIsWhole(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		srv, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
		require.NoError(t, err)
		srv.Start()
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
		require.True(t, srv.ReadyForConnections(10*time.Second))
		nc, err := nats.Connect("", nats.InProcessServer(srv))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		require.NoError(t, wire.CreateLog(t.Context(), js, 1, 10*time.Minute))
		c := open(t, nc, logio.Config{OwnHost: own})
		_, err = c.Append(t.Context(), newEvent(`{}`))
		require.NoError(t, err)
		timer := time.AfterFunc(10*time.Millisecond, func() { // as a host that is just coming to it
			_, _ = nc.Subscribe(wire.CheckSubject(""), func(m *nats.Msg) { _ = m.Respond([]byte(`[{"from":2,"to":3}]`)) })
		})
		defer timer.Stop()
		var last error
		for _, err := range c.Query(t.Context(), event.Filter{Types: []string{"test.*"}}) {
			last = err
		}
		var damage *event.DamageError
		if own {
			require.ErrorAs(t, last, &damage)
			require.Equal(t, event.Sequence(2), damage.From)
		} else if last != nil {
			require.ErrorAs(t, last, &damage, "the answer may have come in time")
		}
	}
}
