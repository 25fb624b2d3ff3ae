package broker

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/roles"
)

// Three nodes with keys, clients and routes over TLS: each role reaches the Log from
// each node.
func TestClusterWithKeysAndTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, roles.MakeTLS(dir, []string{"127.0.0.1"}))
	var keys []Key
	for _, r := range roles.Roles {
		k, err := roles.Make(string(r), r, file(string(r)))
		require.NoError(t, err)
		keys = append(keys, KeyOf(k))
	}
	var nodes []*starting
	for _, cfg := range clusterOf(t, 3) {
		cfg.Keys = keys
		cfg.TLS = TLSConfig{Cert: file(roles.CertFile), Key: file(roles.CertKey), CA: file(roles.CAFile)}
		nodes = append(nodes, start(t, cfg))
	}
	n := 0
	for _, node := range nodes {
		b := node.up(t)
		require.Contains(t, b.ClientURL(), "tls://")
		for _, r := range roles.Roles {
			nc, err := client.Connect(t.Context(), client.Target{
				Servers: []string{b.ClientURL()}, NKey: file(string(r)), TLS: client.TLSFiles{CA: file(roles.CAFile)},
			})
			require.NoError(t, err)
			t.Cleanup(nc.Close)
			c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			require.EqualValues(t, r, c.Admin().Role())
			_, err = c.AppendBatch(t.Context(), []event.Event{{Type: "task.created", Actor: "a"}, {Type: "task.completed", Actor: "a"}})
			require.NoError(t, err)
			n += 2
			got := 0
			for _, err := range c.Query(t.Context(), event.Filter{Linearizable: true}) {
				require.NoError(t, err)
				got++
			}
			require.Equal(t, n, got)
		}
	}
}
