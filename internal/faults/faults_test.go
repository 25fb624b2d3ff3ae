package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

// length is how long a run makes faults: DSTREAM_FAULTS, or a moment.
func length(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("DSTREAM_FAULTS")
	if s == "" {
		return longtest.Pick(time.Second, 10*time.Second)
	}
	d, err := time.ParseDuration(s)
	require.NoError(t, err)
	return d
}

// kinds are the faults that DSTREAM_FAULT_KINDS picks, a regular expression; nil: all.
func kinds(t *testing.T) *regexp.Regexp {
	t.Helper()
	s := os.Getenv("DSTREAM_FAULT_KINDS")
	if s == "" {
		return nil
	}
	re, err := regexp.Compile(s)
	require.NoError(t, err)
	return re
}

// systems are what every run is made against.
var systems = map[string]func(t *testing.T, bin string) *System{
	"one host": func(t *testing.T, bin string) *System {
		dir := t.TempDir()
		disks, why := MakeDisks(dir, 1, 2<<30)
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
		dirs, disks, why := threeDirs(t)
		s, err := NewCluster(bin, dirs)
		require.NoError(t, err)
		s.UseDisks(disks, why)
		return s
	},
	"three machines": func(t *testing.T, bin string) *System {
		dirs, disks, why := threeDirs(t)
		s, err := NewNamespacedCluster(bin, dirs)
		if err != nil {
			t.Skipf("skipped: network namespaces: %v", err)
		}
		s.UseDisks(disks, why)
		return s
	},
}

func threeDirs(t *testing.T) (dirs [3]string, disks []*disk, why error) {
	dir := t.TempDir()
	disks, why = MakeDisks(dir, 3, 2<<30)
	t.Cleanup(func() { require.NoError(t, Unmount(disks)) })
	for i := range dirs {
		dirs[i] = filepath.Join(dir, fmt.Sprintf("n%d", i+1))
		if why == nil {
			dirs[i] = filepath.Join(disks[i].Dir(), "node")
		}
	}
	return dirs, disks, why
}

// TestFaults makes faults for a while and demands that nothing was lost, doubled,
// reordered or torn. DSTREAM_FAULTS sets how long, SEED repeats a run.
func TestFaults(t *testing.T) {
	bin := program(t)
	seed, err := SeedFrom("SEED")
	require.NoError(t, err)
	for _, name := range longtest.Pick([]string{"one host"}, []string{"one host", "three nodes", "three machines"}) {
		t.Run(name, func(t *testing.T) {
			if name == "three machines" && !ownNetwork(t) {
				return
			}
			t.Logf("SEED=%d", seed)
			rep, err := Run(t.Context(), Config{
				System: systems[name](t, bin), Seed: seed, Length: length(t), Clients: 6, Pace: longtest.Pick(10*time.Millisecond, 2*time.Millisecond), Kinds: kinds(t), Say: t.Logf,
			})
			if err != nil && rep != nil && rep.Verdict != nil {
				t.Log("found so far:", rep.Problems)
			}
			require.NoError(t, err)
			t.Log("\n" + Table([]string{name}, []*Report{rep}))
			t.Log(rep.Outcomes)
			made := 0
			for _, n := range rep.Faults {
				made += n
			}
			for what, why := range rep.Skipped {
				t.Logf("skipped: %s: %s", what, why)
			}
			t.Logf("%s: %d faults of %d kinds were made, %d kinds were skipped", name, made, len(rep.Faults), len(rep.Skipped))
			require.Empty(t, rep.Problems)
		})
	}
}

// ownNetwork tells that this process has a network of its own; where it has not, the
// test is run by another process that has.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv("DSTREAM_OWN_NETWORK") != "" {
		return true
	}
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run", "^TestFaults$/^three_machines$", "-test.v", "-test.timeout", "3h")
	cmd.Env = append(os.Environ(), "DSTREAM_OWN_NETWORK=1")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "unshare failed") {
		t.Skipf("skipped: a network of its own: %s", out)
	}
	t.Logf("in a network of its own:\n%s", out)
	require.NoError(t, err)
	return false
}
