package faults

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/longtest"
)

// groupsOf is where a node keeps what its raft groups know.
func groupsOf(n *Node) string {
	return filepath.Join(n.Dir, durablestream.HostDir, broker.StoreDir, "jetstream", broker.SystemAccount(false), "_js_")
}

// findingsOf are what doctor finds on a node.
func findingsOf(ctx context.Context, t *testing.T, n *Node, args ...string) (names, words []string, code int) {
	t.Helper()
	out, code := n.Command(ctx, append([]string{"doctor", "--json"}, args...)...)
	var a struct {
		Findings []struct{ Finding, What, Repair, Outcome, Limits string }
	}
	require.NoError(t, json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &a), out)
	for _, f := range a.Findings {
		names, words = append(names, f.Finding), append(words, strings.Join([]string{f.What, f.Repair, f.Limits, f.Outcome}, "|"))
	}
	return names, words, code
}

// sameMirrors tells whether all nodes have written the same mirror.
func sameMirrors(t *testing.T, s *System) bool {
	t.Helper()
	all := map[string]bool{}
	for _, node := range s.Nodes {
		b, err := os.ReadFile(durablestream.MirrorPath(node.Dir))
		if err != nil {
			return false // it has not begun yet
		}
		all[string(b)] = true
	}
	return len(all) == 1
}

// All nodes lose their meta group, after which the engine would delete all copies of the
// log. The nodes refuse to start, and doctor leads out, with everything that was
// acknowledged, though one node had stored half of it only.
func TestAllNodesLoseTheirMetaGroup(t *testing.T) {
	longtest.Only(t, "three processes are started again and again; TestOneNodeLosesItsMetaGroup runs, and TestRebuiltMetaGroup of broker")
	const n = 2000
	s, c := three(t, n/2, 300)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s.Nodes[2].Kill()
	fill(t, c, n/2, 300)
	was, err := ReadLog(ctx, c)
	require.NoError(t, err)
	require.Len(t, was, n)
	for _, node := range s.Nodes {
		node.Kill()
		require.NoError(t, os.RemoveAll(filepath.Join(groupsOf(node), "_meta_")))
	}

	var copies []string
	for _, node := range s.Nodes {
		require.NoError(t, node.Start())
		require.True(t, node.ended(time.Minute), node.Words())
		require.Contains(t, node.Words(), "doctor --fix --rebuild-meta")
		dir, err := node.Blocks()
		require.NoError(t, err)
		copies = append(copies, dir)
		require.NoDirExists(t, filepath.Join(groupsOf(node), "_meta_"))
	}
	for _, node := range s.Nodes {
		names, words, code := findingsOf(ctx, t, node, "--fix", "--yes")
		require.Equal(t, 1, code)
		require.Contains(t, names, "meta_lost")
		require.Contains(t, strings.Join(words, "\n"), "nothing was changed: whether the other nodes hold the log is not known: this node does not run: give --server of another one")
		_, words, _ = findingsOf(ctx, t, node, "--fix", "--yes", "--rebuild-meta")
		require.Contains(t, strings.Join(words, "\n"), "|the meta group was written anew")
		names, _, _ = findingsOf(ctx, t, node)
		require.NotContains(t, names, "meta_lost")
		kept, err := blocks.Glob(node.Dir, filepath.Join(durablestream.HostDir, broker.DamagedDir, "replaced-*", "EVENTS", "msgs", "*.blk"))
		require.NoError(t, err)
		require.NotEmpty(t, kept)
	}

	require.NoError(t, s.Start())
	require.NoError(t, s.ready(ctx))
	again, end, err := s.Client(ctx)
	require.NoError(t, err)
	defer end()
	got, err := ReadLog(ctx, again)
	require.NoError(t, err)
	require.Equal(t, was, got)
	fill(t, again, 100, 300)
	require.Eventually(t, func() bool { return same(t, s) }, time.Minute, 500*time.Millisecond)

	// The engine looks for orphans 30 s after its start.
	for looks := range 80 {
		for _, dir := range copies {
			require.DirExists(t, dir, "after %d looks", looks)
		}
		pause(ctx, 500*time.Millisecond)
	}
	require.Eventually(t, func() bool {
		for _, node := range s.Nodes {
			out, code := node.Command(ctx, "status", "--server", strings.Join(s.servers, ","))
			if code != 0 {
				t.Log(out)
				return false
			}
		}
		return same(t, s) && sameMirrors(t, s)
	}, time.Minute, time.Second)
	got, err = ReadLog(ctx, again)
	require.NoError(t, err)
	require.Len(t, got, n+100)
	require.Equal(t, was, got[:n])
}

// One node loses its meta group: it does not start, and doctor lets the others replace its
// copy, which is kept.
func TestOneNodeLosesItsMetaGroup(t *testing.T) {
	n := longtest.Pick(100, 500)
	s, c := three(t, n, 300)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	was, err := ReadLog(ctx, c)
	require.NoError(t, err)
	for _, node := range s.Nodes { // so that the others have never met the one
		node.Kill()
	}
	one := s.Nodes[0]
	require.NoError(t, os.RemoveAll(filepath.Join(groupsOf(one), "_meta_")))
	require.NoError(t, s.Start())
	require.True(t, one.ended(time.Minute), one.Words())
	require.NoError(t, s.ready(ctx))
	servers := strings.Join(s.servers[1:], ",")
	_, words, code := findingsOf(ctx, t, one, "--server", servers, "--fix", "--yes", "--rebuild-meta")
	require.Equal(t, 1, code)
	require.Contains(t, strings.Join(words, "\n"), "nothing was changed: the cluster has its meta group")
	require.Eventually(t, func() bool { // what is on its way to the others arrives
		_, words, _ = findingsOf(ctx, t, one, "--server", servers, "--fix", "--yes")
		return strings.Contains(strings.Join(words, "\n"), "|a majority of the others holds the log whole")
	}, time.Minute, time.Second, "%v", stringer(func() string { return strings.Join(words, "\n") }))
	kept, err := blocks.Glob(one.Dir, filepath.Join(durablestream.HostDir, broker.DamagedDir, "replaced-*", "EVENTS", "msgs", "*.blk"))
	require.NoError(t, err)
	require.NotEmpty(t, kept)
	require.NoError(t, one.Start())
	require.Eventually(t, func() bool {
		_, code := one.Command(ctx, "status", "--server", strings.Join(s.servers, ","))
		return code == 0 && same(t, s) && sameMirrors(t, s)
	}, time.Minute, 500*time.Millisecond)
	got, err := ReadLog(ctx, c)
	require.NoError(t, err)
	require.Equal(t, was, got)
}
