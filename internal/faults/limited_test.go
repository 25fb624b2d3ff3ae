package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/internal/engine"
	"durablestream/internal/longtest"
)

// limited are commands that stop of their own accord, with how much they bring of a
// whole log of alone. at is in what they read, and before the last they bring.
var limited = []struct {
	command string
	lines   int
}{
	{"query --after 770 --limit 20", 20},
	{"query --stream s2 --limit 500", 500},
	{"query --type task.> --limit 1000", 1000},
	{"query --stream s2 --after 770 --limit 20", 20},
	{"query --type task.* --last 2500", 2500},
	{"query --last 2500", 2500},
}

const damagedAt = 777 // stream s2

// Readers that stop of their own accord do not leave out a damaged event in silence:
// neither where nobody hosts, nor from the first moment under a running host.
func TestLimitedReaders(t *testing.T) {
	longtest.Only(t, "it runs 60 processes; TestScripts/damage of cmd/dstream and TestDoctorMendsAHost run")
	const n = 3000
	s, host, _ := alone(t, n, 6000) // several blocks
	require.NoError(t, s.Stop())
	for _, l := range limited {
		out, code := host.Command(t.Context(), strings.Fields(l.command)...)
		require.Zero(t, code, l.command)
		require.Equal(t, l.lines, strings.Count(out, "\n"), l.command)
	}
	for name, damage := range map[string]func(p Place) error{
		"body":   func(p Place) error { return p.Flip(p.Length / 2) },
		"length": func(p Place) error { return p.Flip(1) },
	} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, host %v", name, running), func(t *testing.T) {
				other, n := copyOf(t, s, host)
				if running {
					require.NoError(t, n.Start())
					t.Cleanup(n.Kill)
					require.NoError(t, other.ready(t.Context()))
				}
				p, err := n.Find(damagedAt)
				require.NoError(t, err)
				require.NoError(t, damage(p))
				for _, l := range limited {
					out, code := n.Command(t.Context(), strings.Fields(l.command)...)
					require.True(t, code == 1 || code == 0 && running && strings.Count(out, "\n") == l.lines, "%s\n%s", l.command, out)
				}
				if running { // the engine may have it in memory for a while, as it was
					require.Eventually(t, func() bool {
						out, code := n.Command(t.Context(), "status")
						return code == 1 && strings.Contains(out, "ALARM      the store is damaged")
					}, time.Minute, 100*time.Millisecond)
				}
				for _, l := range limited {
					out, code := n.Command(t.Context(), strings.Fields(l.command)...)
					require.Equal(t, 1, code, l.command)
					require.Contains(t, out, "cannot be read", l.command)
				}
				out, code := n.Command(t.Context(), "query", "--stream", "s2", "--limit", "100")
				require.Zero(t, code, "what comes before is whole: %s", out)
				out, code = n.Command(t.Context(), "status")
				require.Equal(t, 1, code)
				require.Contains(t, out, "ALARM      the store is damaged")
				require.NotContains(t, out, "nobody hosts")
				if !running {
					out, code = n.Command(t.Context(), "doctor", "--fix", "--yes")
					require.Zero(t, code, out)
					require.NotContains(t, out, "filled")
					out, code = n.Command(t.Context(), "status")
					require.Zero(t, code, out)
				}
			})
		}
	}
}

// Blocks that go while nobody hosts are missed, though the engine's index went with
// them; and so is the end.
func TestBlocksThatHaveGone(t *testing.T) {
	longtest.Only(t, "it runs 20 processes on logs of 27 MB; TestDoctorMissingStore and TestDoctorKnowsTheLastStop of cmd/dstream run")
	s, host, _ := alone(t, 3000, 9000)
	require.NoError(t, s.Stop())
	for _, block := range []string{"2.blk", "newest"} {
		t.Run(block, func(t *testing.T) {
			_, n := copyOf(t, s, host)
			dir, err := n.Blocks()
			require.NoError(t, err)
			files, err := filepath.Glob(filepath.Join(dir, "*.blk"))
			require.NoError(t, err)
			require.Greater(t, len(files), 3)
			if block == "newest" {
				block = fmt.Sprintf("%d.blk", len(files))
			}
			require.NoError(t, os.Remove(filepath.Join(dir, block)))
			require.NoError(t, os.Remove(filepath.Join(dir, engine.StateFile)))
			for _, command := range []string{"query", "query --stream s1", "query --stream s1 --limit 950", "resume", "status"} {
				out, code := n.Command(t.Context(), strings.Fields(command)...)
				require.Equal(t, 1, code, command)
				require.Contains(t, out, "damaged", command)
			}
			out, code := n.Command(t.Context(), "doctor", "--fix", "--yes")
			require.Zero(t, code, out)
			out, code = n.Command(t.Context(), "query", "--stream", "s1")
			require.Zero(t, code)
			require.Equal(t, 1000, strings.Count(out, "\n"))
		})
	}
}

// A lease is nowhere but in the store: it comes back from the copy that is made of a
// damaged block before the engine can cut it off.
func TestLeaseBehindADamagedLength(t *testing.T) {
	longtest.Only(t, "it writes a log of 15 MB and repairs it; TestDoctorMendsAHost runs, and TestRepairFromElsewhere of internal/blocks")
	s, host, c := alone(t, 10, 300)
	_, err := c.Intents().Create(t.Context(), client.IntentSpec{ID: "in_1", StreamID: "s0", Actor: "agent/a", Description: "x"})
	require.NoError(t, err)
	_, err = c.Intents().Claim(t.Context(), "in_1", "worker", time.Hour)
	require.NoError(t, err)
	fill(t, c, 3000, 5000)
	require.NoError(t, s.Stop())
	p, err := host.Find(5)
	require.NoError(t, err)
	require.NoError(t, p.Flip(1))
	for range 2 {
		_, code := host.Command(t.Context(), "query", "--stream", "s1")
		require.Equal(t, 1, code)
	}
	out, code := host.Command(t.Context(), "doctor", "--fix", "--yes")
	require.Zero(t, code, out)
	require.NotContains(t, out, "filled")
	out, code = host.Command(t.Context(), "intent", "list", "--json")
	require.Zero(t, code)
	require.Contains(t, out, `"holder": "worker"`)
}

// copyOf is a lone host with a copy of another's directory, as it was left, times and
// all.
func copyOf(t *testing.T, s *System, from *Node) (*System, *Node) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), ".opencode")
	require.NoError(t, os.CopyFS(dir, os.DirFS(from.Dir)))
	require.NoError(t, filepath.Walk(from.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from.Dir, path)
		require.NoError(t, err)
		return os.Chtimes(filepath.Join(dir, rel), info.ModTime(), info.ModTime())
	}))
	other := NewHost(s.bin, dir)
	other.Nodes = other.Nodes[:1]
	return other, other.Nodes[0]
}

// The newest block is cut off, or goes, under a host that has nothing of it in memory. The
// engine would go on with a shorter log, and give the Sequences of what was acknowledged
// to other events: the host ends instead.
func TestNewestBlockCutUnderAHost(t *testing.T) {
	longtest.Only(t, "ten hosts are damaged; TestNewestBlockIsEmptyAndDamaged of broker and TestDoctorKnowsTheLastStop of cmd/dstream run")
	const n = 3000
	s, host, _ := alone(t, n, 6000)
	require.NoError(t, s.Stop())
	appended := []string{"append", "a.b", "--stream", "s", "--actor", "user", "--timeout", "2s"}
	for name, damage := range map[string]func(path string) error{
		"cut":  func(path string) error { return os.Truncate(path, 1_000_000) },
		"gone": os.Remove,
	} {
		for _, first := range [][]string{{"query", "--stream", "s1"}, {"query"}, {"query", "--last", "2"}, {"query", "--stream", "s1", "--last", "2"}, appended} {
			t.Run(name+", "+strings.Join(first[:min(4, len(first))], " "), func(t *testing.T) {
				other, host := copyOf(t, s, host)
				require.NoError(t, host.Start())
				t.Cleanup(host.Kill)
				require.NoError(t, other.ready(t.Context()))
				p, err := host.Find(n)
				require.NoError(t, err)
				require.NoError(t, damage(p.Path))
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				out, code := host.Command(ctx, first...)
				if code == 0 { // the engine still had it in memory, or the host had not looked
					require.Contains(t, out, fmt.Sprintf(`"seq":%d,`, map[bool]int{true: n + 1, false: n}[first[0] == "append"]))
					return
				}
				require.Contains(t, out, "damaged")
				require.True(t, host.ended(20*time.Second), "it hosts no longer")
				out, code = host.Command(t.Context(), appended...)
				require.NotZero(t, code, out)
				require.Contains(t, out, "dstream doctor")
				out, code = host.Command(t.Context(), "query", "--last", "2")
				require.Equal(t, 1, code, out)
				out, code = host.Command(t.Context(), "doctor", "--fix", "--yes")
				require.Zero(t, code, out)
				out, code = host.Command(t.Context(), "query", "--stream", "s1")
				require.Zero(t, code)
				require.Equal(t, n/3, strings.Count(out, "\n"))
			})
		}
	}
}
