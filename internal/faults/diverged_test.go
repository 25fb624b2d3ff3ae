package faults

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/longtest"
)

// forge makes another record of the one at seq, in the store of a node that does not run:
// its checksum is right, so that only the other nodes' copies tell.
func forge(t *testing.T, n *Node, seq, last event.Sequence) {
	t.Helper()
	dir, err := n.Blocks()
	require.NoError(t, err)
	p, err := n.Find(seq)
	require.NoError(t, err)
	other := p.Record
	other.Header, other.Data = append([]byte{}, other.Header...), []byte(strings.Replace(string(p.Record.Data), `xxx`, `yyy`, 1))
	require.NotEqual(t, string(p.Record.Data), string(other.Data))
	for i := 12; i < p.Length-1; i++ {
		require.NoError(t, p.Flip(i))
	}
	done, lost, err := blocks.Repair(t.Context(), dir, "", t.TempDir(), 1, last, blocks.Known{Record: func(event.Sequence) (blocks.Record, bool) { return other, true }})
	require.NoError(t, err)
	require.Empty(t, lost)
	require.Len(t, done, 1)
}

// stringer makes words when they are needed.
type stringer func() string

func (s stringer) String() string { return s() }

// A node whose copy holds another event than the others, with nothing wrong in itself, is
// found and named from every node, and copies the log anew once that cannot lose anything.
func TestDoctorFindsADivergedNode(t *testing.T) {
	longtest.Only(t, "three processes are started again and again; TestOneNodeLosesItsMetaGroup has the same repair, and TestDigest of internal/blocks and TestDoctorWithALesserKey of cmd/dstream compare copies")
	const n, at = 1500, 700
	s, c := three(t, n, 300)
	was, err := ReadLog(t.Context(), c)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	servers := strings.Join(s.servers, ",")
	healthy := func() {
		t.Helper()
		out := ""
		require.Eventually(t, func() (ok bool) {
			var code int
			out, code = s.Nodes[0].Command(ctx, "status", "--server", servers)
			return code == 0
		}, time.Minute, 500*time.Millisecond, "%v", stringer(func() string { return out + s.Words() }))
	}
	found := func(node *Node, args ...string) (names, what []string, code int) {
		t.Helper()
		out, code := node.Command(ctx, append([]string{"doctor", "--json"}, args...)...)
		var a struct {
			Findings []struct{ Finding, What, Repair, Outcome string }
		}
		require.NoError(t, json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &a), out)
		for _, f := range a.Findings {
			names, what = append(names, f.Finding), append(what, f.What+"|"+f.Repair+"|"+f.Outcome)
		}
		return names, what, code
	}
	healthy()
	for _, node := range s.Nodes { // the control
		require.Eventually(t, func() bool { _, _, code := found(node); return code == 0 }, time.Minute, 100*time.Millisecond)
	}

	bad := s.Nodes[1]
	bad.Signal(syscall.SIGTERM)
	require.True(t, bad.ended(30*time.Second))
	forge(t, bad, at, n)
	out, _ := bad.Command(ctx, "doctor")
	require.Contains(t, out, "not the other nodes: this node does not run: give --server of another one")
	_, what, code := found(bad, "--server", servers)
	require.Equal(t, 1, code)
	require.Contains(t, strings.Join(what, "\n"), "the node n2 diverged: in position 699 to 700 its copy of the log is not that of n1 and n3, which are the same")

	// Its mirror knows better, and would not let it start.
	require.NoError(t, os.Remove(durablestream.MirrorPath(bad.Dir)))
	require.NoError(t, bad.Start())
	healthy()
	for _, node := range s.Nodes {
		names, what, code := found(node)
		require.Equal(t, 1, code)
		require.Equal(t, []string{"replica_diverged"}, names)
		require.Contains(t, what[0], "the node n2 diverged")
		require.Equal(t, node == bad, strings.Contains(what[0], "|takes this node's copy of the log and its mirror away"), what)
		require.Equal(t, node != bad, strings.Contains(what[0], "run doctor on n2"), what)
	}

	// Not while that would leave less than a majority.
	s.Nodes[2].Signal(syscall.SIGTERM)
	require.True(t, s.Nodes[2].ended(30*time.Second))
	require.NoError(t, s.ready(ctx))
	names, what, code := found(bad, "--fix", "--yes")
	require.Equal(t, 1, code)
	require.Equal(t, []string{"replica_diverged"}, names)
	require.Contains(t, what[0], "no majority of the nodes holds the same whole copy")
	require.True(t, bad.Running())
	require.NoError(t, os.Remove(durablestream.MirrorPath(s.Nodes[2].Dir))) // it may be held against the copy that is wrong
	require.NoError(t, s.Nodes[2].Start())
	healthy()

	out, code = bad.Command(ctx, "doctor", "--fix", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, "repaired: a majority of the others holds the log whole")
	require.True(t, bad.ended(time.Second))
	require.NoError(t, bad.Start())
	healthy()
	require.Eventually(t, func() bool { return same(t, s) }, time.Minute, time.Second)
	got, err := ReadLog(ctx, c)
	require.NoError(t, err)
	require.Equal(t, was, got)
	require.Eventually(t, func() bool { _, _, code := found(bad); return code == 0 }, time.Minute, time.Second)
}
