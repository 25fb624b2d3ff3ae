package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
)

// moved are a host and another process that has joined its log, both of a project's
// directory, with 20 events.
func moved(t *testing.T) (s *System, project string, host, joined *Node) {
	t.Helper()
	bin := program(t)
	project = filepath.Join(t.TempDir(), "project")
	require.NoError(t, os.Mkdir(project, 0o700))
	s = NewHost(bin, filepath.Join(project, ".opencode"))
	host, joined = s.Nodes[0], s.Nodes[1]
	require.NoError(t, host.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()), "%s", host.Words())
	require.NoError(t, joined.Start())
	c, end, err := s.Client(t.Context())
	require.NoError(t, err)
	defer end()
	fill(t, c, 20, 10)
	return s, project, host, joined
}

func at(n *Node, dir string) *Node { return &Node{Name: n.Name, Dir: dir, bin: n.bin} }

// The copy of a project's directory, made while its host runs, is a log of its own: what is
// appended there is there, and not in the original.
func TestFaultsCopiedDirectory(t *testing.T) {
	longtest.Only(t, "several processes; TestCopyIsALogOfItsOwn of internal/hosting runs")
	_, project, host, _ := moved(t)
	before, code := host.Command(t.Context(), "query")
	require.Zero(t, code)
	copied := at(host, filepath.Join(t.TempDir(), "copy", ".opencode"))
	require.NoError(t, os.CopyFS(filepath.Dir(copied.Dir), os.DirFS(project)))

	out, code := copied.Command(t.Context(), "append", "copied.event", "--stream", "copy", "--actor", "a", "--timeout", "30s")
	require.Zero(t, code, out)
	out, code = host.Command(t.Context(), "append", "own.event", "--stream", "own", "--actor", "a")
	require.Zero(t, code, out)

	own, code := host.Command(t.Context(), "query")
	require.Zero(t, code, own)
	require.True(t, strings.HasPrefix(own, before))
	require.NotContains(t, own, "copied.event")
	there, code := copied.Command(t.Context(), "query")
	require.Zero(t, code, there)
	require.Contains(t, there, "copied.event")
	require.NotContains(t, there, "own.event")
	for _, n := range []*Node{host, copied} {
		out, code := n.Command(t.Context(), "mirror", "verify")
		require.Zero(t, code, out)
	}
}

// Who has joined the log of a directory that is renamed, or removed, under its host makes no
// other log in its place, and acknowledges nothing there.
func TestFaultsRenamedDirectory(t *testing.T) {
	longtest.Only(t, "several processes; TestMovedWhileJoined of internal/hosting runs, and TestDirectoryMovedAway of cmd/dstream")
	for name, away := range map[string]func(t *testing.T, project string) (back func()){
		"renamed": func(t *testing.T, project string) func() {
			other := project + "-renamed"
			require.NoError(t, os.Rename(project, other))
			return func() { require.NoError(t, os.Rename(other, project)) }
		},
		"removed": func(t *testing.T, project string) func() {
			brokertest.RemoveAll(t, project)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, project, host, joined := moved(t)
			before, code := host.Command(t.Context(), "query")
			require.Zero(t, code)
			d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: host.Dir}) // it would host, too
			require.NoError(t, err)
			defer d.Close() // its log has gone
			back := away(t, project)
			// Both notice by themselves, and end.
			require.Eventually(t, func() bool { return !host.Running() && !joined.Running() }, time.Minute, 20*time.Millisecond, "%s", s.Words())
			_, err = d.Append(t.Context(), event.Event{Type: "late.event", StreamID: "s", Actor: "a", Payload: []byte(`{}`)})
			require.Error(t, err)
			require.NoDirExists(t, project)
			if back == nil {
				return
			}
			back()
			require.NoError(t, host.Start())
			require.NoError(t, s.ready(t.Context()))
			after, code := host.Command(t.Context(), "query")
			require.Zero(t, code, after)
			require.Equal(t, before, after)
			host.Signal(syscall.SIGTERM)
			require.True(t, host.ended(30*time.Second), fmt.Sprint(host.Words()))
		})
	}
}
