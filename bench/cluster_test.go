package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/freeport"
	"durablestream/internal/measure"
)

// freePorts finds ports that nobody listens on; all are taken before any is freed, so
// that they differ.
func freePorts(b testing.TB, n int) []string {
	b.Helper()
	var out []string
	for range n {
		l, err := freeport.Listen()
		require.NoError(b, err)
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// A log of three replicas: three `dstream serve` processes, which share one disk here.
// Ours and bare are both connected to the node that leads the Log: elsewhere a message goes
// through one more.
func BenchmarkCluster(b *testing.B) {
	ports := freePorts(b, 6) // of the clients, then of the routes
	var nodes []*serving
	var servers []string
	dir := b.TempDir()
	for i := range 3 {
		name := fmt.Sprint("n", i+1)
		n := startServe(b, filepath.Join(dir, name), "--no-mirror", "--name", name,
			"--cluster-name", "bench", "--cluster-listen", ports[3+i], "--routes", "nats://"+strings.Join(ports[3:], ",nats://"), "--listen", ports[i], "--replicas", "3")
		n.name = name
		nodes = append(nodes, n)
		servers = append(servers, "nats://"+ports[i])
	}
	for _, n := range nodes {
		n.hosts(b)
	}
	d, err := durablestream.Open(b.Context(), durablestream.Config{Servers: servers})
	require.NoError(b, err)
	defer d.Close()
	anywhere, _, _ := joined(b, client.Target{Servers: servers})
	state, err := anywhere.Admin().State(b.Context())
	require.NoError(b, err)
	at := slices.IndexFunc(nodes, func(n *serving) bool { return n.name == state.Leader })
	require.GreaterOrEqual(b, at, 0, "no leader %q", state.Leader)
	c, bare, conns := joined(b, client.Target{Servers: servers[at : at+1]})
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(10), For: 200 * time.Millisecond, InFlight: n},
				measure.Side{Name: "ours", Op: measure.Appender(c)}, measure.Side{Name: "bare", Op: bare.Append})
			require.NoError(b, err)
			state, err := c.Admin().State(b.Context())
			require.NoError(b, err)
			for _, node := range []string{state.Leader, conns[0].ConnectedServerName(), conns[1].ConnectedServerName()} {
				require.Equal(b, nodes[at].name, node, "the leader, or a connection, has moved meanwhile: run it again")
			}
			report(b, all)
		})
	}
}

// joined is Join until the benchmark ends.
func joined(b testing.TB, t client.Target) (*client.Client, *measure.Bare, []*nats.Conn) {
	b.Helper()
	c, bare, conns, err := measure.Join(b.Context(), t)
	require.NoError(b, err)
	b.Cleanup(func() { leave(c, conns) })
	return c, bare, conns
}

// leave ends what Join began.
func leave(c *client.Client, conns []*nats.Conn) {
	c.Close()
	for _, nc := range conns {
		nc.Close()
	}
}
