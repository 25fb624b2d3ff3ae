package brokertest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/internal/freeport"
	"durablestream/internal/wire"
)

// Cluster is three plain servers in this process, on ports of the loopback that
// they keep, with the Log on all of them. They sync before they acknowledge.
type Cluster struct {
	nodes []*node // three
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
	c := &Cluster{nodes: clusterNodes(t, t.TempDir(), configure)}
	for i := range c.nodes {
		c.Start(t, i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Stop(t, i)
		}
	})
	createLog(t, c.admin(t), len(c.nodes), 0)
	require.Eventually(t, func() bool { return c.Leader() >= 0 }, 10*time.Second, time.Millisecond)
	return c
}

// StartBareCluster starts three servers that have no Log, returns when they take one,
// and gives their URLs.
func StartBareCluster(t testing.TB) []string {
	t.Helper()
	c := &Cluster{nodes: clusterNodes(t, t.TempDir(), nil)}
	for _, n := range c.nodes {
		n.start(t)
		t.Cleanup(n.stop)
	}
	js := c.admin(t)
	require.Eventually(t, func() bool {
		_, err := js.Stream(t.Context(), wire.LogName)
		return errors.Is(err, jetstream.ErrStreamNotFound) && len(c.nodes[max(c.MetaLeader(), 0)].server.JetStreamClusterPeers()) == len(c.nodes)
	}, 60*time.Second, 10*time.Millisecond)
	return c.Servers()
}

func (c *Cluster) admin(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(c.Connect(t))
	require.NoError(t, err)
	return js
}

// clusterNodes are three nodes that know each other, and are not started.
func clusterNodes(t testing.TB, dir string, configure func(int, *server.Options, []int)) []*node {
	t.Helper()
	const n = 3
	ports := freePorts(t, 2*n)
	var routes []*url.URL
	for _, port := range ports[n:] {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var nodes []*node
	for i := range n {
		opts := plainOptions(dir, fmt.Sprintf("n%d", i+1), ports[i])
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[n+i]}
		opts.Routes = routes
		if configure != nil {
			configure(i, &opts, ports[n:])
		}
		nodes = append(nodes, &node{opts: opts})
	}
	return nodes
}

// freePorts finds ports that nobody listens on; all are taken before any is freed,
// so that they differ.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := freeport.Listen()
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
	c.nodes[i].start(t)
}

func (n *node) start(t testing.TB) {
	t.Helper()
	opts := n.opts // the server changes what it is given
	s, err := server.NewServer(&opts)
	require.NoError(t, err)
	s.Start()
	n.server = s
	// It is ready only when it has met the others, which start after the first.
	require.Eventually(t, func() bool { return s.ReadyForConnections(time.Millisecond) || s.ClientURL() != "" }, 10*time.Second, time.Millisecond)
}

func (n *node) stop() {
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
}

// Stop stops node i in an orderly way, if it runs.
func (c *Cluster) Stop(t testing.TB, i int) {
	t.Helper()
	c.nodes[i].stop()
}

// Leader is the node that leads the Log; -1 while there is none.
func (c *Cluster) Leader() int { return leaderOf(c.nodes) }

func leaderOf(nodes []*node) int {
	for i, n := range nodes {
		if n.server != nil && (n.opts.Cluster.Name == "" || n.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, wire.LogName)) {
			return i
		}
	}
	return -1
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

// StartLagging starts a cluster in which one follower hears of the Log's leader late, and
// of the node that places consumers at once: a reader that is fed by it is behind. The
// connection is to that third node.
func StartLagging(t testing.TB, late time.Duration) (*Cluster, *nats.Conn) {
	t.Helper()
	cl, links := StartLinkedCluster(t)
	for range 20 {
		if cl.Leader() != cl.MetaLeader() {
			break
		}
		cl.StepDown(t)
	}
	leader, meta := cl.Leader(), cl.MetaLeader()
	require.NotEqual(t, leader, meta)
	nc := cl.ConnectTo(t, meta)
	links.Delay(leader, 3-leader-meta, late)
	return cl, nc
}
