// Package place finds the directory of the log that a command is for, and becomes the
// user whose directory it is.
package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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

// Default is where the log is unless somebody says otherwise: in the nearest .opencode
// that has one, from here up to the root of the git work tree; else in the .opencode at
// the root of the main work tree, where OpenCode is too. So the linked work trees of a
// repository share the log of the main one, which stays when they are removed. Outside of
// a work tree it is in .opencode, here. What git takes for no repository is no work tree.
func Default() string {
	repo, at, ok := workTree()
	if !ok {
		return logHere
	}
	main := repo.Main()
	has := LogExists
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
	return paths.Exists(filepath.Join(dir, durablestream.HostDir, broker.StoreDir))
}

// Plugin is where OpenCode, started here, loads its plugins from: in each work tree.
func Plugin() string {
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

// WorkTree finds out which linked work tree a command is for: the one that the command is
// given in, or, with shared, for a plugin, the one that dir is in. It returns the directory
// of the log, and git's name of the work tree; in the log of another project the name says
// nothing, and is "".
func WorkTree(dir string, shared bool) (log, name string) {
	repo, _, ok := workTree()
	if shared {
		repo, ok = paths.FindRepository(filepath.Dir(paths.Absolute(dir)))
	}
	main := repo.Main()
	if !ok || main == "" {
		return dir, ""
	}
	if shared && !storeExists(dir) {
		dir = filepath.Join(main, logHere)
	}
	project, err := filepath.EvalSymlinks(filepath.Dir(paths.Absolute(dir)))
	if err == nil && (shared || isBelow(project, main) || isBelow(project, repo.Root)) {
		return dir, repo.Worktree()
	}
	return dir, "" // the log is not that of this repository
}

// SharedLog is where the log of a linked work tree would be that has one of its own: dir
// is this log's. "": it is no such log.
func SharedLog(dir string) (shared, worktree string) {
	repo, ok := paths.FindRepository(filepath.Dir(paths.Absolute(dir)))
	if !ok || repo.Main() == "" || !isBelow(paths.Absolute(dir), repo.Root) {
		return "", ""
	}
	return filepath.Join(repo.Main(), logHere), repo.Worktree()
}

// Unlinked says that the log in dir is a linked work tree's alone because the work
// tree's link to its repository is broken. "": it is no such log.
func Unlinked(dir string) (words string, u paths.Unlinked) {
	dir = paths.Absolute(dir)
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

// PassedBy is the nearest log above that lies beside a .git which is no repository: an
// earlier version used it from here. "": there is none.
func PassedBy() string {
	at, err := os.Getwd()
	if err != nil {
		return ""
	}
	for up := filepath.Dir(at); up != at; at, up = up, filepath.Dir(up) {
		if dir := filepath.Join(up, ".opencode"); paths.Exists(filepath.Join(up, ".git")) && LogExists(dir) {
			return dir
		}
	}
	return ""
}

// LogExists reports whether a directory has a store or a mirror.
func LogExists(dir string) bool { return Demand(dir) == nil }

// Demand returns an error where a directory has neither a store nor a mirror, or where
// that cannot be seen. A link that keeps a host from making a log there comes first.
func Demand(dir string) error {
	for _, name := range []string{durablestream.HostDir + "/" + broker.StoreDir, durablestream.MirrorFile} {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	dir = paths.Absolute(dir)
	if err := paths.NoLogLink(dir); err != nil {
		return err
	}
	if err := broker.CheckLinks(filepath.Join(dir, durablestream.HostDir)); err != nil {
		return err
	}
	lost, err := broker.Lost(filepath.Join(dir, durablestream.HostDir))
	if err != nil {
		return err
	}
	return &durablestream.NoLogError{Dir: dir, Lost: lost}
}
