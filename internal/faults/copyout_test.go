package faults

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/longtest"
)

// A node whose engine cannot open the copy of the log keeps its files and copies nothing
// from the others. The node itself says so, whatever the log's leader thinks of it, and
// doctor lets the others replace the copy, which is kept, while a majority is whole.
func TestCopyThatStaysOut(t *testing.T) {
	longtest.Only(t, "three processes are started again and again; TestOneNodeLosesItsMetaGroup runs here, and TestClusterNodeStepsAside and TestLogThatTheEngineDoesNotOpen of broker")
	const n = 500
	for _, c := range []struct {
		name   string
		starts bool // the node
		harm   func(t *testing.T, blocks string)
	}{
		{"a directory that cannot be made", true, func(t *testing.T, dir string) {
			consumers := filepath.Join(filepath.Dir(dir), "obs")
			require.NoError(t, os.RemoveAll(consumers))
			require.NoError(t, os.WriteFile(consumers, nil, 0o600))
		}},
		{"a block that cannot be read", false, func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "1.blk"), filepath.Join(dir, "kept")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "1.blk"), 0o700))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, engine.StateFile)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, cl := three(t, n, 300)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			servers := strings.Join(s.servers, ",")
			was, err := ReadLog(ctx, cl)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return same(t, s) && sameMirrors(t, s) }, time.Minute, 100*time.Millisecond)
			bad := s.Nodes[1]
			dir, err := bad.Blocks()
			require.NoError(t, err)
			bad.Signal(syscall.SIGTERM)
			require.True(t, bad.ended(time.Minute))
			c.harm(t, dir)
			require.NoError(t, bad.Start())
			if !c.starts {
				require.True(t, bad.ended(time.Minute))
				require.Contains(t, bad.Words(), "this node's copy of the log cannot be read")
				require.Contains(t, bad.Words(), "doctor --fix --server")
				require.DirExists(t, filepath.Join(dir, "1.blk"))
			} else {
				out := ""
				require.Eventually(t, func() bool {
					var code int
					out, code = bad.Command(ctx, "status", "--json", "--server", servers)
					return code == 1 && strings.Contains(out, `"copy_unhealthy"`)
				}, 2*time.Minute, time.Second, "%v", stringer(func() string { return out + bad.Words() }))
				require.NotContains(t, out, "it catches up by itself")
				require.Contains(t, bad.Words(), "the engine has not opened this node's copy of the log")
				require.FileExists(t, filepath.Join(dir, "1.blk"))
			}

			// Not while that would leave less than a majority.
			s.Nodes[2].Kill()
			_, words, code := findingsOf(ctx, t, bad, "--server", servers, "--fix", "--yes")
			require.Equal(t, 1, code)
			require.Contains(t, strings.Join(words, "\n"), "nothing was changed")
			require.DirExists(t, dir)
			require.Equal(t, c.starts, bad.Running())
			require.NoError(t, s.Nodes[2].Start())

			require.Eventually(t, func() bool {
				_, words, _ = findingsOf(ctx, t, bad, "--server", servers, "--fix", "--yes")
				return strings.Contains(strings.Join(words, "\n"), "|a majority of the others holds the log whole")
			}, time.Minute, time.Second, "%v", stringer(func() string { return strings.Join(words, "\n") }))
			kept, err := blocks.Glob(bad.Dir, filepath.Join(durablestream.HostDir, broker.DamagedDir, "replaced-*", "EVENTS", "msgs", "*"))
			require.NoError(t, err)
			require.NotEmpty(t, kept)
			require.NoError(t, bad.Start())
			require.Eventually(t, func() bool {
				_, code := bad.Command(ctx, "status", "--server", servers)
				return code == 0 && same(t, s) && sameMirrors(t, s)
			}, 90*time.Second, time.Second)
			got, err := ReadLog(ctx, cl)
			require.NoError(t, err)
			require.Equal(t, was, got)
		})
	}
}
