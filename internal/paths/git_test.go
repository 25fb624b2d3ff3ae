package paths

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

// repository makes what git init makes, as far as git needs it.
func repository(t *testing.T, root string) {
	t.Helper()
	put(t, filepath.Join(root, ".git/HEAD"), "ref: refs/heads/main\n")
	put(t, filepath.Join(root, ".git/config"), "[core]\n\tbare = false\n")
	require.NoError(t, os.MkdirAll(filepath.Join(root, ".git/objects"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, ".git/refs"), 0o755))
}

// worktree makes what git worktree add makes.
func worktree(t *testing.T, main, root string) {
	t.Helper()
	at := filepath.Join(main, ".git/worktrees", filepath.Base(root))
	put(t, filepath.Join(at, "HEAD"), "0123456789012345678901234567890123456789\n")
	put(t, filepath.Join(at, "commondir"), "../..\n")
	put(t, filepath.Join(at, "gitdir"), filepath.Join(root, ".git")+"\n")
	put(t, filepath.Join(root, ".git"), "gitdir: "+at+"\n")
}

// agrees compares with git itself, where there is one.
func agrees(t *testing.T, dir, want string) {
	t.Helper()
	r, ok := FindRepository(dir)
	require.Equal(t, want, r.Root)
	require.Equal(t, want != "", ok)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Logf("not compared with git: %v", err)
		return
	}
	cmd := exec.Command(git, "rev-parse", "--show-toplevel")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.Output()
	if want == "" {
		require.Error(t, err, "git says %s", out)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want+"\n", string(out))
}

// A repository is what git takes for one.
func TestFindRepository(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		make  func(t *testing.T, root string)
		found bool
	}{
		{"none", func(*testing.T, string) {}, false},
		{"a whole one", repository, true},
		{"an empty directory", func(t *testing.T, root string) { require.NoError(t, os.Mkdir(root+"/.git", 0o755)) }, false},
		{"an empty file", func(t *testing.T, root string) { put(t, root+"/.git", "") }, false},
		{"no HEAD", func(t *testing.T, root string) { repository(t, root); require.NoError(t, os.Remove(root+"/.git/HEAD")) }, false},
		{"a broken HEAD", func(t *testing.T, root string) { repository(t, root); put(t, root+"/.git/HEAD", "ref: heads/main\n") }, false},
		{"a detached HEAD", func(t *testing.T, root string) {
			repository(t, root)
			put(t, root+"/.git/HEAD", "0123456789abcdef0123456789abcdef01234567\n")
		}, true},
		{"no objects", func(t *testing.T, root string) {
			repository(t, root)
			require.NoError(t, os.Remove(root+"/.git/objects"))
		}, false},
		{"no refs", func(t *testing.T, root string) { repository(t, root); require.NoError(t, os.Remove(root+"/.git/refs")) }, false},
		{"a file that leads nowhere", func(t *testing.T, root string) { put(t, root+"/.git", "gitdir: ../nowhere/.git\n") }, false},
		{"a file that leads to no repository", func(t *testing.T, root string) {
			require.NoError(t, os.Mkdir(root+"/empty", 0o755))
			put(t, root+"/.git", "gitdir: empty\n")
		}, false},
		{"a submodule", func(t *testing.T, root string) {
			over := filepath.Join(filepath.Dir(root), "over")
			repository(t, over)
			require.NoError(t, os.Mkdir(over+"/.git/modules", 0o755))
			repository(t, root)
			require.NoError(t, os.Rename(root+"/.git", over+"/.git/modules/sub"))
			put(t, root+"/.git", "gitdir: ../over/.git/modules/sub\n")
		}, true},
		{"a linked work tree", func(t *testing.T, root string) {
			main := filepath.Join(filepath.Dir(root), "main")
			repository(t, main)
			worktree(t, main, root)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			root := filepath.Join(base, "root")
			deep := filepath.Join(root, "a", "b")
			require.NoError(t, os.MkdirAll(deep, 0o755))
			c.make(t, root)
			want := ""
			if c.found {
				want = root
			}
			agrees(t, deep, want)
			agrees(t, root, want)
		})
	}
}

// Behind a directory that is only called .git, the repository around it is found.
func TestFindRepositoryAround(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	repository(t, base)
	require.NoError(t, os.MkdirAll(filepath.Join(base, "in", ".git"), 0o755))
	agrees(t, filepath.Join(base, "in"), base)
}

func TestMainOfAWorktree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(t *testing.T, main, root string)
		want bool
	}{
		{"linked", worktree, true},
		{"with relative paths", func(t *testing.T, main, root string) {
			worktree(t, main, root)
			put(t, root+"/.git", "gitdir: ../main/.git/worktrees/linked\n")
			put(t, main+"/.git/worktrees/linked/gitdir", "../../../../linked/.git\n")
		}, true},
		{"the main one itself", func(t *testing.T, _, root string) { repository(t, root) }, false},
		{"from an archive, naming another's place", func(t *testing.T, main, root string) {
			worktree(t, main, filepath.Join(filepath.Dir(root), "other"))
			put(t, root+"/.git", "gitdir: "+main+"/.git/worktrees/other\n")
		}, false},
		{"from an archive, with a place of its own that names another's repository", func(t *testing.T, main, root string) {
			worktree(t, main, filepath.Join(filepath.Dir(root), "other"))
			put(t, root+"/fake/worktrees/linked/HEAD", "ref: refs/heads/main\n")
			put(t, root+"/fake/worktrees/linked/commondir", main+"/.git\n")
			put(t, root+"/fake/worktrees/linked/gitdir", root+"/.git\n")
			put(t, root+"/.git", "gitdir: fake/worktrees/linked\n")
		}, false},
		{"of a bare repository", func(t *testing.T, main, root string) {
			worktree(t, main, root)
			put(t, main+"/.git/config", "[core]\n\trepositoryformatversion = 0\n\tBare = true ; no work tree\n")
		}, false},
		{"removed in the main one", func(t *testing.T, main, root string) {
			worktree(t, main, root)
			put(t, main+"/.git/worktrees/linked/gitdir", root+"-moved/.git\n")
		}, false},
		{"a submodule", func(t *testing.T, main, root string) {
			require.NoError(t, os.Mkdir(main+"/.git/modules", 0o755))
			repository(t, root)
			require.NoError(t, os.Rename(root+"/.git", main+"/.git/modules/sub"))
			put(t, root+"/.git", "gitdir: ../main/.git/modules/sub\n")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			main, root := filepath.Join(base, "main"), filepath.Join(base, "linked")
			require.NoError(t, os.Mkdir(root, 0o755))
			repository(t, main)
			c.make(t, main, root)
			r, ok := FindRepository(root)
			require.True(t, ok)
			require.Equal(t, root, r.Root)
			want := ""
			if c.want {
				want = main
			}
			require.Equal(t, want, r.Main())
		})
	}
}

// What git itself makes.
func TestMainAsGitMakesIt(t *testing.T) {
	t.Parallel()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	run := func(args ...string) {
		cmd := exec.Command(git, args...)
		cmd.Dir = base
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	run("init", "-q", "main")
	run("-C", "main", "commit", "-q", "--allow-empty", "-m", "one")
	run("-C", "main", "worktree", "add", "-q", "../linked")
	run("clone", "-q", "--bare", "main", "bare.git")
	run("-C", "bare.git", "worktree", "add", "-q", "../of-bare")
	for dir, want := range map[string]string{"main": "", "linked": filepath.Join(base, "main"), "of-bare": ""} {
		r, ok := FindRepository(filepath.Join(base, dir))
		require.True(t, ok, dir)
		require.Equal(t, want, r.Main(), dir)
	}
}

// A repository of somebody else below a directory of ours, as one in /tmp is, is not ours.
func TestRepositoryOfAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a directory of another user")
	}
	base := t.TempDir()
	repository(t, base)
	mine := filepath.Join(base, "mine")
	theirs := filepath.Join(base, "theirs")
	require.NoError(t, os.Mkdir(mine, 0o755))
	require.NoError(t, os.Mkdir(theirs, 0o755))
	require.NoError(t, os.Chown(base, 4001, 4001))
	require.NoError(t, os.Chown(theirs, 4001, 4001))
	_, ok := FindRepository(mine)
	require.False(t, ok)
	_, ok = FindRepository(theirs)
	require.True(t, ok, "root works where the user works")
}
