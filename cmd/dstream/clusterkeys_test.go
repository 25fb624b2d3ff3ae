package main

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/internal/longtest"
	"durablestream/internal/roles"
)

// What an agent appends goes through a check in the node that it is connected to. Each node is
// killed under its load, and then each is stopped while the others go on, and continued: what was
// acknowledged is stored, once, and each goroutine's in its order.
func TestClusterWithKeysUnderLoad(t *testing.T) {
	longtest.Only(t, "each of three nodes is killed and stopped; TestCluster kills a leader under load, and TestClusterWithKeysAndTLS and TestGateKeepsTheOrder of broker have keys")
	t.Parallel()
	n := newNodes(t)
	seed, list := filepath.Join(n.dir, "agent.nk"), filepath.Join(n.dir, "keys.json")
	key, err := roles.Make("agent", roles.Agent, seed)
	require.NoError(t, err)
	require.NoError(t, roles.Write(list, []roles.Key{key}))
	n.flags = []string{"--keys", list}
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, err := durablestream.Open(ctx, durablestream.Config{Servers: n.servers, NKey: seed})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	require.EqualValues(t, roles.Agent, d.Admin().Role())

	l := startLoad(t, d, 4)
	l.more(t, 100)
	for i := range n.procs {
		require.NoError(t, n.procs[i].Process.Kill())
		<-n.exit[i]
		l.more(t, 100)
		n.start(t, i)
		n.serving(t, i)
		l.more(t, 100)
	}
	for i := range n.procs {
		require.NoError(t, n.procs[i].Process.Signal(syscall.SIGSTOP))
		l.more(t, 100)
		require.NoError(t, n.procs[i].Process.Signal(syscall.SIGCONT))
		l.more(t, 100)
	}
	l.stop()
	l.check(t, d)
	n.stop(t, 0, 1, 2)
}

// The nodes compare their copies for an admin. The server drops such a request of another key
// without an answer, so doctor names the role that it takes, and does not wait for one.
func TestDoctorWithALesserKey(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	list := filepath.Join(n.dir, "keys.json")
	seed := func(r roles.Role) string { return filepath.Join(n.dir, string(r)+".nk") }
	var keys []roles.Key
	for _, r := range []roles.Role{roles.Agent, roles.Operator, roles.Admin} {
		key, err := roles.Make(string(r), r, seed(r))
		require.NoError(t, err)
		keys = append(keys, key)
	}
	require.NoError(t, roles.Write(list, keys))
	n.flags = []string{"--keys", list}
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	as := func(r roles.Role, args ...string) []string {
		return append([]string{"--dir", n.dirOf(0), "--server", strings.Join(n.servers, ","), "--nkey", seed(r)}, args...)
	}
	status, _, words := dstream(t, as(roles.Agent, "append", "task.created", "--stream", "s", "--actor", "a")...)
	require.Zero(t, status, words)
	for _, r := range []roles.Role{roles.Agent, roles.Operator} {
		_, out, words := dstream(t, as(r, "doctor")...)
		require.Contains(t, out+words, "not the other nodes: client: not allowed: this key has the role "+string(r)+", and to ask the nodes for digests of their copies takes the role admin")
	}
	_, out, words := dstream(t, as(roles.Admin, "doctor")...)
	require.Contains(t, out+words, "the copies of n1, n2, n3, up to position 1")
	n.stop(t, 0, 1, 2)
}
