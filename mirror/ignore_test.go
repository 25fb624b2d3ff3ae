package mirror

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/brokertest"
)

// The log is not in git, where a tool's snapshots of the work tree would have it.
func TestGitLeavesTheLogAlone(t *testing.T) {
	t.Parallel()
	const ours = "# The log of Durable Stream. To keep it in git all the same: !/durable_stream*.jsonl\n/durable_stream*.jsonl\n"
	const opencodes = "node_modules\npackage.json\npackage-lock.json\nbun.lock\n.gitignore\n"
	for _, c := range []struct {
		name, had, want string
		dir             string
	}{
		{"none", "-", opencodes + ours, ".opencode"},
		{"none, elsewhere", "-", ours, "log"},
		{"OpenCode's", "node_modules\n.gitignore", "node_modules\n.gitignore\n" + ours, ".opencode"},
		{"somebody's wish", "!/durable_stream.jsonl\n", "!/durable_stream.jsonl\n", ".opencode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			project := t.TempDir()
			for _, dir := range []string{"objects", "refs"} {
				require.NoError(t, os.MkdirAll(filepath.Join(project, ".git", dir), 0o755))
			}
			require.NoError(t, os.WriteFile(filepath.Join(project, ".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
			dir := filepath.Join(project, c.dir)
			require.NoError(t, os.Mkdir(dir, 0o755))
			path := filepath.Join(dir, ".gitignore")
			if c.had != "-" {
				require.NoError(t, os.WriteFile(path, []byte(c.had), 0o600))
			}
			h := brokertest.Start(t)
			cfg := Config{Client: h.Client, Dir: dir}
			for range 2 {
				catchUp(t, cfg)
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, c.want, string(got))
				got, err = os.ReadFile(filepath.Join(dir, hostDir, ".gitignore"))
				require.NoError(t, err, "of the directory that the lock is in")
				require.Equal(t, "*\n", string(got))
			}
		})
	}
	t.Run("no git", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, ".git"), 0o755), "an empty one is no repository")
		h := brokertest.Start(t)
		catchUp(t, Config{Client: h.Client, Dir: dir})
		require.NoFileExists(t, filepath.Join(dir, ".gitignore"))
	})
}
