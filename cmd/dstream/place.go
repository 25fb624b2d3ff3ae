package main

import (
	"fmt"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/paths"
)

// logHere is the directory of a log, in the directory where a command is given.
const logHere = ".opencode"

// workTree is the git work tree that a command is given in.
func workTree() (repo paths.Repository, at string, ok bool) {
	at, err := os.Getwd()
	if err == nil {
		at, err = filepath.EvalSymlinks(at) // as ".." goes, and as git does
	}
	if err != nil {
		return repo, at, false
	}
	repo, ok = paths.FindRepository(at)
	return repo, at, ok
}

// projectDir is where the log is unless somebody says otherwise: in the nearest .opencode
// that has one, from here up to the root of the git work tree; else in the .opencode at
// the root of the main work tree, where OpenCode is too. So the linked work trees of a
// repository share the log of the main one, which stays when they are removed. Outside of
// a work tree it is in .opencode, here. What git takes for no repository is no work tree.
func projectDir() string {
	repo, at, ok := workTree()
	if !ok {
		return logHere
	}
	main := repo.Main()
	has := logExists
	if main != "" { // a mirror alone may have been checked out with the work tree
		has = storeExists
	}
	dir := logHere
	for ; ; dir, at = filepath.Join("..", dir), filepath.Dir(at) {
		if has(dir) {
			return dir
		}
		if at == repo.Root {
			break
		}
	}
	if main != "" {
		return filepath.Join(main, logHere)
	}
	return dir
}

func storeExists(dir string) bool {
	return exists(filepath.Join(dir, durablestream.HostDir, broker.StoreDir))
}

// pluginDir is where OpenCode, started here, loads its plugins from: in each work tree.
func pluginDir() string {
	repo, at, ok := workTree()
	if !ok {
		return logHere
	}
	dir, err := filepath.Rel(at, filepath.Join(repo.Root, logHere))
	if err != nil {
		return filepath.Join(repo.Root, logHere)
	}
	return dir
}

// findWorkTree finds out which linked work tree the command is for: the one that it is
// given in, or, for a plugin, the one that its --dir is in. In the log of another project
// its name says nothing.
func (o *options) findWorkTree() {
	repo, _, ok := workTree()
	if o.shared {
		repo, ok = paths.FindRepository(filepath.Dir(absolute(o.dir)))
	}
	main := repo.Main()
	if !ok || main == "" {
		return
	}
	if o.shared && !storeExists(o.dir) {
		o.dir = filepath.Join(main, logHere)
	}
	project, err := filepath.EvalSymlinks(filepath.Dir(absolute(o.dir)))
	if err == nil && (o.shared || isBelow(project, main) || isBelow(project, repo.Root)) {
		o.worktree = repo.Worktree() // else the log is not that of this repository
	}
}

// sharedLog is where the log of a linked work tree would be that has one of its own: dir
// is this log's. "": it is no such log.
func sharedLog(dir string) (shared, worktree string) {
	repo, ok := paths.FindRepository(filepath.Dir(absolute(dir)))
	if !ok || repo.Main() == "" || !isBelow(absolute(dir), repo.Root) {
		return "", ""
	}
	return filepath.Join(repo.Main(), logHere), repo.Worktree()
}

// unlinkedWords says that the log in dir is a linked work tree's alone because the work
// tree's link to its repository is broken. "": it is no such log.
func unlinkedWords(dir string) (words string, u paths.Unlinked) {
	dir = absolute(dir)
	u, ok := paths.FindUnlinked(filepath.Dir(dir))
	if !ok || !isBelow(dir, u.Root) {
		return "", u
	}
	fault := "does not point back to it"
	if u.Gone {
		fault = "does not exist"
	}
	return fmt.Sprintf("%s looks like a linked work tree, but %s %s: its log is separate, and goes with 'git worktree remove'; 'git worktree repair %s', run in the main work tree, links it again",
		u.Root, u.GitDir, fault, u.Root), u
}

func isBelow(path, root string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}

// passedBy is the nearest log above that lies beside a .git which is no repository: an
// earlier version used it from here. "": there is none.
func passedBy() string {
	at, err := os.Getwd()
	if err != nil {
		return ""
	}
	for up := filepath.Dir(at); up != at; at, up = up, filepath.Dir(up) {
		if dir := filepath.Join(up, ".opencode"); exists(filepath.Join(up, ".git")) && logExists(dir) {
			return dir
		}
	}
	return ""
}
