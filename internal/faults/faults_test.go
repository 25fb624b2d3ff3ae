package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// length is how long a run makes faults: DSTREAM_FAULTS, or a moment.
func length(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("DSTREAM_FAULTS")
	if s == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(s)
	require.NoError(t, err)
	return d
}

// systems are what every run is made against.
var systems = map[string]func(t *testing.T, bin string) *System{
	"one host": func(t *testing.T, bin string) *System {
		dir := t.TempDir()
		disks, why := MakeDisks(dir, 1, 512<<20)
		t.Cleanup(func() { require.NoError(t, Unmount(disks)) })
		home := dir
		if why == nil {
			home = disks[0].Dir()
		}
		s := NewHost(bin, filepath.Join(home, ".opencode"))
		s.UseDisks(disks, why)
		return s
	},
	"three nodes": func(t *testing.T, bin string) *System {
		dir := t.TempDir()
		disks, why := MakeDisks(dir, 3, 512<<20)
		t.Cleanup(func() { require.NoError(t, Unmount(disks)) })
		var dirs [3]string
		for i := range dirs {
			dirs[i] = filepath.Join(dir, fmt.Sprintf("n%d", i+1))
			if why == nil {
				dirs[i] = filepath.Join(disks[i].Dir(), "node")
			}
		}
		s, err := NewCluster(bin, dirs)
		require.NoError(t, err)
		s.UseDisks(disks, why)
		return s
	},
}

// TestFaults makes faults for a while and demands that nothing was lost, doubled,
// reordered or torn. DSTREAM_FAULTS sets how long, SEED repeats a run.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	bin, err := Build(t.Context(), t.TempDir())
	require.NoError(t, err)
	seed, err := SeedFrom("SEED")
	require.NoError(t, err)
	for _, name := range []string{"one host", "three nodes"} {
		t.Run(name, func(t *testing.T) {
			t.Logf("SEED=%d", seed)
			rep, err := Run(t.Context(), Config{
				System: systems[name](t, bin), Seed: seed, Length: length(t), Clients: 6, Pace: 2 * time.Millisecond, Say: t.Logf,
			})
			require.NoError(t, err)
			for what, why := range rep.Skipped {
				t.Logf("skipped: %s: %s", what, why)
			}
			t.Log("\n" + Table([]string{name}, []*Report{rep}))
			t.Log(rep.Outcomes)
			require.Empty(t, rep.Problems)
		})
	}
}
