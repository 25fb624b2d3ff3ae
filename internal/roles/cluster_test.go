package roles_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/freeport"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// clustered is three nats-servers with the configuration that we print, and the Log
// on all of them; the keys connect to one that does not lead it.
func clustered(t *testing.T) *site {
	t.Helper()
	list, keys, seeds := makeKeys(t)
	s := &site{keys: keys, seeds: seeds, api: roles.APIPrefix}
	var servers []*server.Server
	for tries := 0; servers == nil; tries++ { // somebody else may take a port meanwhile
		require.Less(t, tries, 4, "the cluster does not start")
		servers = startCluster(t, roles.ServerConfig(list))
	}
	s.target.Servers = []string{servers[0].ClientURL()}
	s.owner = s.connect(t, "admin")
	js, err := jetstream.New(s.owner)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, wire.LogConfig(3, 0))
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	s.open(t)
	leads := func(srv *server.Server) bool { return srv.JetStreamIsStreamLeader(roles.LogAccount, wire.LogName) }
	for _, srv := range servers {
		if !leads(srv) {
			s.target.Servers = []string{srv.ClientURL()}
		}
	}
	return s
}

// startCluster starts three servers; nil if they do not become ready.
func startCluster(t *testing.T, conf string) (servers []*server.Server) {
	t.Helper()
	ports := freePorts(t, 3)
	stop := func() {
		for _, srv := range servers {
			srv.Shutdown()
			srv.WaitForShutdown()
		}
	}
	for i := range ports {
		opts := &server.Options{}
		require.NoError(t, opts.ProcessConfigString(conf))
		opts.ServerName, opts.Host, opts.Port, opts.NoSigs, opts.NoLog, opts.StoreDir = fmt.Sprintf("n%d", i), "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir()
		opts.Cluster = server.ClusterOpts{Name: "ds", Host: "127.0.0.1", Port: ports[i]}
		for _, p := range ports {
			opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", p)})
		}
		srv, err := server.NewServer(opts)
		require.NoError(t, err)
		srv.Start()
		servers = append(servers, srv)
	}
	for _, srv := range servers {
		if !srv.ReadyForConnections(20 * time.Second) {
			stop()
			return nil
		}
	}
	t.Cleanup(stop)
	return servers
}

// nodes are three of ours. What keys publish goes through the gate of a node that may not lead
// the Log.
func nodes(t *testing.T) *site {
	t.Helper()
	list, keys, seeds := makeKeys(t)
	var routes []string
	for _, p := range freePorts(t, 3) {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	brokers, errs := make([]*broker.Broker, 3), make(chan error, 3)
	for i, route := range routes {
		go func() {
			var err error
			brokers[i], err = broker.Start(t.Context(), broker.Config{
				Dir: t.TempDir(), Name: fmt.Sprintf("n%d", i), Keys: brokerKeys(list), DiskFloor: -1,
				Cluster: &broker.ClusterConfig{Name: "ds", Listen: strings.TrimPrefix(route, "nats://"), Routes: routes},
			})
			errs <- err
		}()
	}
	t.Cleanup(func() {
		for _, b := range brokers {
			if b != nil {
				require.NoError(t, b.Stop(context.Background()))
			}
		}
	})
	for range brokers {
		require.NoError(t, <-errs)
	}
	owner, err := brokers[0].Connect()
	require.NoError(t, err)
	_, err = owner.Subscribe(wire.StatusSubject, func(m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	require.NoError(t, err)
	s := &site{target: client.Target{Servers: []string{brokers[0].ClientURL()}}, keys: keys, seeds: seeds, owner: owner, api: roles.APIPrefix}
	return s.open(t)
}

func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := freeport.Listen()
		require.NoError(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
