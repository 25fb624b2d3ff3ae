package faults

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
)

// The guard of a decision cannot be read any more: the engine would take another
// decision as the first. Nobody can decide again.
func TestDamagedGuardIsNotDecidedAgain(t *testing.T) {
	bin := program(t)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	host := s.Nodes[0]
	require.NoError(t, host.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))
	c, end, err := s.Client(t.Context())
	require.NoError(t, err)
	cp, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{StreamID: "s", RequestedBy: "agent", DecisionPoint: "?"})
	require.NoError(t, err)
	decided, err := c.Checkpoints().Approve(t.Context(), cp.ID, client.Approval{By: "alice"})
	require.NoError(t, err)
	for range 5 { // so that it is not the newest
		_, err = c.Append(t.Context(), event.Event{Type: "fault.event", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
	}
	end()
	host.Signal(syscall.SIGTERM)
	require.True(t, host.ended(20*time.Second))
	p, err := host.Find(decided.Decision.Seq - 1)
	require.NoError(t, err)
	require.NoError(t, p.Flip(p.Length-20)) // in its body

	out, code := host.Command(t.Context(), "checkpoint", "reject", cp.ID, "--by", "bob")
	require.NotZero(t, code, out)
	require.Contains(t, out, "dstream doctor")
	out, code = host.Command(t.Context(), "doctor", "--fix", "--yes")
	require.Zero(t, code, out)
	out, code = host.Command(t.Context(), "checkpoint", "reject", cp.ID, "--by", "bob")
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "approved by alice")
}
