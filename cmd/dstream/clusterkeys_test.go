package main

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/internal/roles"
)

// What an agent appends goes through a check in the node that it is connected to. Each node is
// killed under its load, and then each is stopped while the others go on, and continued: what was
// acknowledged is stored, once, and each goroutine's in its order.
func TestClusterWithKeysUnderLoad(t *testing.T) {
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
	require.EqualValues(t, roles.Agent, d.Role())

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
