package paths

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindUnlinked(t *testing.T) {
	t.Parallel()
	move := func(t *testing.T, from, to string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		require.NoError(t, os.Rename(from, to))
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, base string) (root string)
		gone bool
		want bool
	}{
		{"linked", func(_ *testing.T, base string) string { return base + "/linked" }, false, false},
		{"the main one", func(_ *testing.T, base string) string { return base + "/main" }, false, false},
		{"no repository at all", func(_ *testing.T, base string) string { return base }, false, false},
		{"moved together with the main one", func(t *testing.T, base string) string {
			move(t, base+"/main", base+"/new/main")
			move(t, base+"/linked", base+"/new/linked")
			return base + "/new/linked"
		}, true, true},
		{"moved by hand", func(t *testing.T, base string) string {
			move(t, base+"/linked", base+"/moved")
			return base + "/moved"
		}, false, true},
		{"a copy beside the one that is linked", func(t *testing.T, base string) string {
			require.NoError(t, os.CopyFS(base+"/copy", os.DirFS(base+"/linked")))
			return base + "/copy"
		}, false, true},
		{"of a bare repository", func(t *testing.T, base string) string {
			put(t, base+"/main/.git/config", "[core]\n\tbare = true\n")
			return base + "/linked"
		}, false, false},
		{"a submodule that is gone", func(t *testing.T, base string) string {
			put(t, base+"/sub/.git", "gitdir: ../over/.git/modules/sub\n")
			return base + "/sub"
		}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			repository(t, base+"/main")
			worktree(t, base+"/main", base+"/linked")
			root := c.make(t, base)
			u, ok := FindUnlinked(root)
			require.Equal(t, c.want, ok)
			if !ok {
				return
			}
			require.Equal(t, Unlinked{root, filepath.Join(base, "main/.git/worktrees/linked"), c.gone}, u)
			require.NoError(t, os.Mkdir(root+"/deep", 0o755))
			deep, ok := FindUnlinked(root + "/deep")
			require.True(t, ok)
			require.Equal(t, u, deep)
		})
	}
}
