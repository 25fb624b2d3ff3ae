package faults

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

// TestMirrorKilledAtEachStep ends the process that writes the mirror right before each
// of its steps on the disk, several times, while it rotates its files all the while.
// Whoever comes next leaves files that hold what the Log holds.
func TestMirrorKilledAtEachStep(t *testing.T) {
	longtest.Only(t, "15 hosts killed at steps on the disk, with another build of the program; TestCrashAtEachStep of mirror crashes at each step in one process")
	bin, err := Build(t.Context(), t.TempDir(), "-tags", "failpoints")
	require.NoError(t, err)
	for _, op := range []string{"write", "fsync", "rename", "create", "dirsync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"), "--mirror-max-bytes", "4000")
			h := NewHistory()
			load := &Load{Open: s.Client, Seed: 1, Clients: 2, History: h}
			for i := range 3 {
				for j, n := range s.Nodes {
					n.Env = []string{fmt.Sprintf("DSTREAM_FAILPOINT=%s:%d", op, 1+i+j)}
				}
				require.NoError(t, s.Start())
				loading, stop := context.WithCancel(t.Context())
				load.First = i * 100_000
				load.NextEpoch()
				ended := make(chan error, 1)
				go func() { // they may get in only when others host
					err := load.Enter(t.Context())
					load.Run(loading)
					ended <- err
				}()
				// Both kill themselves, one after the other.
				require.Eventually(t, func() bool { return !s.Nodes[0].Running() && !s.Nodes[1].Running() },
					60*time.Second, 5*time.Millisecond, "%s", s.Words())
				s.Nodes[0].Env, s.Nodes[1].Env = nil, nil
				require.NoError(t, s.Start())
				require.NoError(t, alive(t.Context(), h))
				stop()
				require.NoError(t, <-ended)
				rep := &Report{}
				require.NoError(t, rep.check(t.Context(), s, h, nil))
				require.Empty(t, rep.Problems)
				require.NoError(t, s.Stop())
			}
		})
	}
}
