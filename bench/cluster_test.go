package bench

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
)

// freePorts finds ports that nobody listens on; all are taken before any is freed, so
// that they differ.
func freePorts(b testing.TB, n int) []string {
	b.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// A log of three replicas: three `dstream serve` processes, which share one disk here.
func BenchmarkCluster(b *testing.B) {
	ports := freePorts(b, 6) // of the clients, then of the routes
	var nodes []*serving
	var servers []string
	dir := b.TempDir()
	for i := range 3 {
		nodes = append(nodes, startServe(b, filepath.Join(dir, fmt.Sprint("n", i+1)), "--no-mirror", "--name", fmt.Sprint("n", i+1),
			"--cluster-name", "bench", "--cluster-listen", ports[3+i], "--routes", "nats://"+strings.Join(ports[3:], ",nats://"), "--listen", ports[i], "--replicas", "3"))
		servers = append(servers, "nats://"+ports[i])
	}
	for _, n := range nodes {
		n.hosts(b)
	}
	d, err := durablestream.Open(b.Context(), durablestream.Config{Servers: servers})
	require.NoError(b, err)
	defer d.Close()
	c, bare, conns, err := Join(b.Context(), client.Target{Servers: servers})
	require.NoError(b, err)
	defer func() {
		c.Close()
		for _, nc := range conns {
			nc.Close()
		}
	}()
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all, err := Alternate(b.Context(), Turns{Rounds: rounds(10), For: 200 * time.Millisecond, InFlight: n},
				Side{Name: "ours", Op: Appender(c)}, Side{Name: "bare", Op: bare.Append})
			require.NoError(b, err)
			report(b, all)
		})
	}
}
