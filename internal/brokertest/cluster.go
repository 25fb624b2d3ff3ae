package brokertest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/internal/wire"
)

// Cluster is three plain servers in this process, on ports of the loopback that
// they keep, with the Log on all of them. They sync before they acknowledge.
type Cluster struct {
	nodes [3]*node
}

type node struct {
	opts   server.Options
	server *server.Server // nil while stopped
}

// StartCluster starts a cluster in a new directory, with a Log of three replicas;
// it ends with the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	return startCluster(t, func(int, *server.Options, []int) {})
}

// startCluster starts a cluster of nodes that configure has changed; it gets each
// node's number and options, and the ports for routes of all nodes.
func startCluster(t testing.TB, configure func(int, *server.Options, []int)) *Cluster {
	t.Helper()
	c := &Cluster{}
	dir := t.TempDir()
	ports := freePorts(t, 2*len(c.nodes))
	var routePorts []int
	var routes []*url.URL
	for i := range c.nodes {
		routePorts = append(routePorts, ports[2*i+1])
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])})
	}
	for i := range c.nodes {
		name := fmt.Sprintf("n%d", i+1)
		c.nodes[i] = &node{opts: server.Options{
			ServerName: name, Host: "127.0.0.1", Port: ports[2*i],
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[2*i+1]},
			Routes:  routes,
			NoSigs:  true, NoLog: true,
			JetStream: true, SyncAlways: true, StoreDir: filepath.Join(dir, name),
			JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 1 << 40,
		}}
		configure(i, &c.nodes[i].opts, routePorts)
		c.Start(t, i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Stop(t, i)
		}
	})
	c.createLog(t)
	return c
}

// freePorts finds ports that nobody listens on; all are taken before any is freed,
// so that they differ.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// Start starts node i, 0 to 2, as at first or after Stop, and returns when it takes
// connections; it may still have to catch up.
func (c *Cluster) Start(t testing.TB, i int) {
	t.Helper()
	n := c.nodes[i]
	opts := n.opts // the server changes what it is given
	s, err := server.NewServer(&opts)
	require.NoError(t, err)
	s.Start()
	n.server = s
	// It is ready only when it has met the others, which start after the first.
	require.Eventually(t, func() bool { return s.ReadyForConnections(time.Millisecond) || s.ClientURL() != "" }, 10*time.Second, time.Millisecond)
}

// Stop stops node i in an orderly way, if it runs.
func (c *Cluster) Stop(t testing.TB, i int) {
	t.Helper()
	if s := c.nodes[i].server; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.nodes[i].server = nil
	}
}

// Leader is the node that leads the Log; -1 while there is none.
func (c *Cluster) Leader() int {
	for i, n := range c.nodes {
		if n.server != nil && n.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, wire.LogName) {
			return i
		}
	}
	return -1
}

func (c *Cluster) createLog(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	js, err := jetstream.New(c.Connect(t))
	require.NoError(t, err)
	for { // until the nodes have met and elected a leader
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err = js.CreateStream(try, wire.LogConfig(len(c.nodes), 0))
		cancel()
		if err == nil {
			break
		}
		require.NoError(t, ctx.Err(), "the cluster does not take the Log: %v", err)
	}
	require.Eventually(t, func() bool { return c.Leader() >= 0 }, 10*time.Second, time.Millisecond)
}

// Servers are the URLs of all nodes.
func (c *Cluster) Servers() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port))
	}
	return out
}

// ConnectTo makes a connection that stays with node i, closed when the test ends.
func (c *Cluster) ConnectTo(t testing.TB, i int) *nats.Conn {
	t.Helper()
	nc, err := client.Connect(t.Context(), client.Target{Servers: c.Servers()[i : i+1]}, nats.IgnoreDiscoveredServers())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// MetaLeader is the node that places consumers; -1 while there is none.
func (c *Cluster) MetaLeader() int {
	for i, n := range c.nodes {
		if n.server != nil && n.server.JetStreamIsLeader() {
			return i
		}
	}
	return -1
}

// StepDown makes the Log's leader give way to another node.
func (c *Cluster) StepDown(t testing.TB) {
	t.Helper()
	was := c.Leader()
	require.GreaterOrEqual(t, was, 0)
	require.NoError(t, c.nodes[was].server.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, wire.LogName))
	require.Eventually(t, func() bool { i := c.Leader(); return i >= 0 && i != was }, 20*time.Second, time.Millisecond)
}

// Connect makes a connection, closed when the test ends. It goes to one of the
// nodes and follows what is left of the cluster.
func (c *Cluster) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := client.Connect(t.Context(), client.Target{Servers: c.Servers()})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// NewClient makes a client over a connection of its own.
func (c *Cluster) NewClient(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	cl, err := client.New(t.Context(), c.Connect(t), cfg)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}
