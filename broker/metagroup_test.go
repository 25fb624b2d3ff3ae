package broker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/meta"
	"durablestream/internal/roles"
)

// stoppedCluster gives three nodes that have stored something and were stopped.
func stoppedCluster(t *testing.T, keys []Key) []Config {
	t.Helper()
	cfgs := clusterOf(t, 3)
	for i := range cfgs {
		cfgs[i].Keys = keys
	}
	nodes := upAll(t, cfgs)
	for i := range 20 {
		_, err := publish(t.Context(), nodes[i%3], i)
		require.NoError(t, err)
	}
	for _, b := range nodes {
		require.NoError(t, b.Stop(context.Background()))
	}
	return cfgs
}

// copyOf is a node's directory, with what harm has done to a copy of it.
func copyOf(t *testing.T, cfg Config, harm func(t *testing.T, groups string)) Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "durable_stream")
	require.NoError(t, os.CopyFS(dir, os.DirFS(cfg.Dir)))
	cfg.Dir = dir
	harm(t, filepath.Join(dir, StoreDir, "jetstream", SystemAccount(len(cfg.Keys) > 0), "_js_"))
	return cfg
}

// refuses starts a node that is expected not to start.
func refuses(t *testing.T, cfg Config) (*Broker, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // else it would wait for the others
	defer cancel()
	b, err := Start(ctx, cfg)
	if b != nil {
		require.NoError(t, b.Stop(context.Background()))
	}
	return b, err
}

func remove(names ...string) func(t *testing.T, groups string) {
	return func(t *testing.T, groups string) {
		t.Helper()
		for _, name := range names {
			found, err := filepath.Glob(filepath.Join(groups, name))
			require.NoError(t, err)
			require.NotEmpty(t, found)
			for _, path := range found {
				require.NoError(t, os.RemoveAll(path))
			}
		}
	}
}

// A node whose copy of the Log the engine would delete does not start, and nothing of it
// is changed. The engine deletes it 30 s after the start.
func TestNodeWithoutItsMetaGroup(t *testing.T) {
	t.Parallel()
	key, err := roles.Make("admin", roles.Admin, filepath.Join(t.TempDir(), "admin"))
	require.NoError(t, err)
	for name, keys := range map[string][]Key{"without keys": nil, "with keys": {KeyOf(key)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := stoppedCluster(t, keys)
			for name, c := range map[string]struct {
				harm func(t *testing.T, groups string)
				says string
			}{
				"gone":             {remove("_meta_"), "_meta_ cannot be used: it is not there"},
				"all groups gone":  {remove("_meta_", "S-*"), "_meta_ cannot be used: it is not there"},
				"empty":            {remove("_meta_/*"), "_meta_ cannot be used: it is not there"},
				"without members":  {remove("_meta_/peers.idx"), "it is not there"},
				"without its list": {remove("_meta_/msgs", "_meta_/snapshots"), "does not list the log of the account"},
				"unreadable": {func(t *testing.T, groups string) {
					t.Helper()
					snaps, err := filepath.Glob(filepath.Join(groups, "_meta_", "snapshots", "*"))
					require.NoError(t, err)
					require.NotEmpty(t, snaps)
					for _, path := range snaps {
						b, err := os.ReadFile(path)
						require.NoError(t, err)
						b[len(b)/2] ^= 1
						require.NoError(t, os.WriteFile(path, b, 0o600))
					}
				}, "is damaged"},
				"of another cluster": {func(t *testing.T, groups string) {
					t.Helper()
					remove("_meta_/snapshots", "_meta_/msgs")(t, groups)
					require.NoError(t, os.MkdirAll(filepath.Join(groups, "_meta_", "snapshots"), 0o700))
				}, "does not list the log of the account"},
				"without the raft group": {remove("S-*"), "the raft group S-"},
				"with an empty raft log": {remove("S-*/msgs", "S-*/snapshots"), "the raft group S-"},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					cfg := copyOf(t, whole[0], c.harm)
					before := filesIn(t, cfg.Dir)
					_, err := refuses(t, cfg)
					var lost *MetaLostError
					require.ErrorAs(t, err, &lost)
					require.ErrorContains(t, err, c.says)
					require.ErrorContains(t, err, "doctor --fix --server")
					require.ErrorContains(t, err, "doctor --fix --rebuild-meta")
					require.Equal(t, before, filesIn(t, cfg.Dir))
				})
			}
			for name, harm := range map[string]func(t *testing.T, groups string){
				"whole": func(*testing.T, string) {},
				"a disk that was lost": func(t *testing.T, groups string) {
					t.Helper()
					require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Dir(groups))))
				},
			} {
				t.Run(name, func(t *testing.T) { // one after the other: both listen on the node's port
					cfg := copyOf(t, whole[0], harm)
					s := start(t, cfg)
					require.Eventually(t, func() bool { return strings.Contains(s.last(), "waiting for the cluster") }, 20*time.Second, 10*time.Millisecond)
					s.cancel()
					<-s.done
					require.ErrorIs(t, s.err, context.Canceled)
				})
			}
		})
	}
}

// filesIn are the files below a directory and what they hold, but for the locks.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	}))
	return out
}

// A node's store that has lost its mark is hosted by nobody: neither alone nor in another
// cluster.
func TestNodeWithoutItsMark(t *testing.T) {
	t.Parallel()
	whole := stoppedCluster(t, nil)
	for name, change := range map[string]func(*Config){
		"alone":              func(c *Config) { c.Cluster = nil },
		"in another cluster": func(c *Config) { other := *c.Cluster; other.Name = "other"; c.Cluster = &other },
		"under another name": func(c *Config) { c.Name = "n9" },
		"as it was":          func(*Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := copyOf(t, whole[0], func(*testing.T, string) {})
			require.NoError(t, os.Remove(filepath.Join(cfg.Dir, ManagedFile)))
			change(&cfg)
			_, err := refuses(t, cfg)
			var unmarked *UnmarkedError
			require.ErrorAs(t, err, &unmarked)
			require.NoFileExists(t, filepath.Join(cfg.Dir, ManagedFile))
			require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, ManagedFile), []byte(`{"cluster":"ds","node":"n1"}`), 0o600))
			if name != "as it was" {
				_, err = refuses(t, cfg)
				var managed *ManagedError
				require.ErrorAs(t, err, &managed)
			}
		})
	}
}

// What package meta knows of the engine: the meta group that it writes is read by the
// engine, which finds the Log with all that the nodes had stored, whichever of them lags.
func TestRebuiltMetaGroup(t *testing.T) {
	t.Parallel()
	cfgs := stoppedCluster(t, nil)
	for _, cfg := range cfgs {
		store, keep := filepath.Join(cfg.Dir, StoreDir), t.TempDir()
		require.NoError(t, os.RemoveAll(filepath.Join(store, "jetstream", SystemAccount(false), "_js_", "_meta_")))
		s, err := meta.Look(store, SystemAccount(false), cfg.Name)
		require.NoError(t, err)
		require.NotEmpty(t, s.Lost)
		require.NoError(t, s.Keep(store, keep))
		require.Error(t, s.Rebuild(store, "stranger", "ds", keep))
		// A crash left a part of an earlier one.
		require.NoError(t, os.MkdirAll(filepath.Join(s.Dir+".new", "snapshots"), 0o700))
		require.NoError(t, s.Rebuild(store, cfg.Name, "ds", keep))
		s, err = meta.Look(store, SystemAccount(false), cfg.Name)
		require.NoError(t, err)
		require.Empty(t, s.Lost)
	}
	nodes := upAll(t, cfgs)
	for _, b := range nodes {
		require.Eventually(t, func() bool {
			at, err := b.bounds()
			return err == nil && at.Last == 20
		}, 30*time.Second, 10*time.Millisecond)
	}
	ack, err := publish(t.Context(), nodes[0], 7)
	require.NoError(t, err)
	require.True(t, ack.Duplicate)
	require.EqualValues(t, 8, ack.Sequence)
	ack, err = publish(t.Context(), nodes[1], 20)
	require.NoError(t, err)
	require.EqualValues(t, 21, ack.Sequence)
}
