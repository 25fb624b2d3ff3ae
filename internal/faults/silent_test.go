package faults

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/longtest"
)

// Readers find out by themselves, on a server of which nobody reads the store, that
// leaves out what it cannot read and says nothing.
func TestReadersMissWhatIsLeftOut(t *testing.T) {
	const n = 1200
	s, host, _ := alone(t, n, 300)
	require.NoError(t, s.Stop()) // so that the engine trusts its index
	store := filepath.Join(host.Dir, durablestream.HostDir, broker.StoreDir)
	for _, at := range longtest.Pick([]event.Sequence{0, 500}, []event.Sequence{0, 1, 500, n}) { // 0: none, the control
		t.Run(at.String(), func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(store)))
			if at != 0 {
				p, err := host.Find(at)
				require.NoError(t, err)
				rel, err := filepath.Rel(store, p.Path)
				require.NoError(t, err)
				p.Path = filepath.Join(dir, rel)
				require.NoError(t, p.Flip(p.Length/2))
			}
			srv, err := server.NewServer(&server.Options{
				DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30,
			})
			require.NoError(t, err)
			srv.Start()
			defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
			require.True(t, srv.ReadyForConnections(10*time.Second))
			nc, err := nats.Connect("", nats.InProcessServer(srv))
			require.NoError(t, err)
			defer nc.Close()
			c, err := client.New(t.Context(), nc, client.Config{})
			require.NoError(t, err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for name, f := range map[string]event.Filter{
				"all": {}, "types": {Types: []string{"task.*"}}, "stream": {StreamID: []string{"s2", "s0", "s1"}[at%3]}, "another stream": {StreamID: []string{"s0", "s1", "s2"}[at%3]},
			} {
				want := map[string]int{"all": n, "types": n, "stream": n / 3, "another stream": n / 3}[name]
				check := func(how string, got int, err error) {
					t.Helper()
					var damage *client.DamageError
					if at == 0 || name == "another stream" {
						require.NoError(t, err, "%s %s", how, name)
						require.Equal(t, want, got, "%s %s", how, name)
						return
					}
					require.ErrorAs(t, err, &damage, "%s %s: %d of %d", how, name, got, want)
					require.Equal(t, at, damage.From, "%s %s", how, name)
				}
				begun := time.Now()
				got, err := count(c.Query(ctx, f))
				check("query", got, err)
				require.Less(t, time.Since(begun), 5*time.Second)
				if at != 0 && name != "another stream" {
					got, err = count(c.Subscribe(ctx, f))
					check("subscribe", got, err)
				}
			}
		})
	}
}
