package paths

import (
	"os"
	"path/filepath"
)

// Unlinked is a linked work tree of git whose link to its repository is broken: one of the
// two was moved or copied without 'git worktree move' or 'git worktree repair'.
type Unlinked struct {
	Root   string // of the work tree
	GitDir string // where its file .git leads: a place in a repository's worktrees
	Gone   bool   // GitDir does not exist; else it names another work tree
}

// FindUnlinked finds the work tree that dir is in, where its link is broken. A work tree of
// a bare repository is linked, and has no main work tree all the same.
func FindUnlinked(dir string) (Unlinked, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		if u, broken := unlinked(at); broken && ours(at, dir) {
			return u, true
		}
		if _, ok := openRepository(at); ok || at == filepath.Dir(at) {
			return Unlinked{}, false
		}
	}
}

func unlinked(root string) (u Unlinked, broken bool) {
	file := filepath.Join(root, ".git")
	to, ok := pointer(file, "gitdir:")
	if !ok {
		return u, false
	}
	u = Unlinked{Root: root, GitDir: within(root, to)}
	if filepath.Base(filepath.Dir(u.GitDir)) != "worktrees" {
		return u, false // a submodule, or a repository whose .git is kept elsewhere
	}
	if _, err := os.Stat(u.GitDir); err != nil {
		u.Gone = os.IsNotExist(err)
		return u, u.Gone
	}
	if _, ok := pointer(filepath.Join(u.GitDir, "commondir"), ""); !ok {
		return u, false // a repository of its own, in a directory of that name
	}
	back, ok := pointer(filepath.Join(u.GitDir, "gitdir"), "")
	return u, !ok || !same(within(u.GitDir, back), file)
}
