package brokertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/wire"
)

// ServerVariable chooses what the hosts of Start are: "" the broker of this project,
// "plain" a nats-server as it comes, "cluster" three of them, with the Log on all.
// What all of them must do is tested with each (make test-servers).
const ServerVariable = "DSTREAM_TEST_SERVER"

// plain are nats-servers without anything of ours, which sync before they
// acknowledge. Their limits are the engine's defaults.
type plain struct {
	nodes   []*node
	at      int // the node that the address file names
	created bool
}

func newPlain(t testing.TB, dir string) *plain {
	t.Helper()
	var p *plain
	switch mode := os.Getenv(ServerVariable); mode {
	case "":
		return nil
	case "plain":
		p = &plain{nodes: []*node{{opts: plainOptions(dir, "plain", freePorts(t, 1)[0])}}}
	case "cluster":
		p = &plain{nodes: clusterNodes(t, dir, nil)}
	default:
		t.Fatalf("%s=%s: it is plain, cluster or nothing", ServerVariable, mode)
	}
	t.Cleanup(func() { p.stop() })
	return p
}

func plainOptions(dir, name string, port int) server.Options {
	return server.Options{
		ServerName: name, Host: "127.0.0.1", Port: port,
		NoSigs: true, NoLog: true,
		JetStream: true, SyncAlways: true, StoreDir: filepath.Join(dir, name),
		JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 1 << 40,
	}
}

// boot starts the servers that do not run, makes the Log the first time, and leaves
// an address as a host does.
func (p *plain) boot(t testing.TB, cfg broker.Config) {
	t.Helper()
	for _, n := range p.nodes {
		if n.server == nil {
			n.start(t)
		}
	}
	if !p.created {
		p.createLog(t, cfg.DuplicateWindow)
	}
	require.Eventually(t, func() bool { p.at = leaderOf(p.nodes); return p.at >= 0 }, 30*time.Second, time.Millisecond, "the Log has no leader")
	require.NoError(t, os.MkdirAll(cfg.Dir, 0o700))
	require.NoError(t, address.Write(broker.AddressPath(cfg.Dir), address.Address{
		URL: p.urls()[p.at], PID: os.Getpid(), Format: wire.Format}))
}

// restart stops the server that leads the Log, and starts it again. In a cluster
// another one leads meanwhile.
func (p *plain) restart(t testing.TB, cfg broker.Config) {
	t.Helper()
	n := p.nodes[p.at]
	n.stop()
	p.boot(t, cfg)
}

// Replicated reports that the Log is on several servers.
func (h *Host) Replicated() bool { return h.plain != nil && len(h.plain.nodes) > 1 }

func (p *plain) stop() {
	for _, n := range p.nodes {
		n.stop()
	}
}

// wipe removes what the servers, which do not run, have stored.
func (p *plain) wipe(t testing.TB) {
	t.Helper()
	for _, n := range p.nodes {
		require.NoError(t, os.RemoveAll(n.opts.StoreDir))
	}
	p.created = false
}

func (p *plain) urls() (out []string) {
	for _, n := range p.nodes {
		out = append(out, fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port))
	}
	return out
}

func (p *plain) createLog(t testing.TB, window time.Duration) {
	t.Helper()
	nc, err := nats.Connect(p.urls()[0])
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	createLog(t, js, len(p.nodes), window)
	p.created = true
}

// createLog makes the Log, as soon as the servers take it.
func createLog(t testing.TB, js jetstream.JetStream, replicas int, window time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for { // until the nodes have met and elected a leader
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := wire.CreateLog(try, js, replicas, window)
		cancel()
		if err == nil {
			return
		}
		require.NoError(t, ctx.Err(), "the servers do not take the Log: %v", err)
	}
}

// StartPlain starts one nats-server as it comes, with monitoring, whose options
// configure may change; it ends with the test. It has no Log.
func StartPlain(t testing.TB, configure func(*server.Options)) *server.Server {
	t.Helper()
	opts := plainOptions(t.TempDir(), "plain", server.RANDOM_PORT)
	opts.HTTPHost, opts.HTTPPort = "127.0.0.1", server.RANDOM_PORT
	if configure != nil {
		configure(&opts)
	}
	n := &node{opts: opts}
	n.start(t)
	t.Cleanup(n.stop)
	return n.server
}

// MonitorURL is where a server of StartPlain is monitored.
func MonitorURL(s *server.Server) string { return "http://" + s.MonitorAddr().String() }
