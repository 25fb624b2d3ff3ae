package paths

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Repository is a repository of git with a work tree.
type Repository struct {
	// Root is the work tree's.
	Root string
	// gitDir holds HEAD, and common what all work trees of the repository share. They
	// are the same but in a linked work tree.
	gitDir, common string
}

// FindRepository finds the repository whose work tree dir is in, by the rules of git: a
// directory .git with HEAD, objects and refs, or a file .git that leads to one. Like git,
// it ignores any other file of that name: sandboxes leave empty .git directories in home
// and in /tmp, and all projects below would share one log.
//
// git also ignores repositories of other users. A repository must belong to this user, or
// to the owner of dir itself.
func FindRepository(dir string) (Repository, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		if r, ok := openRepository(at); ok && ours(at, dir) {
			return r, true
		}
		if at == filepath.Dir(at) {
			return Repository{}, false
		}
	}
}

// ours reports that a directory belongs to this user, or to the owner of another one.
func ours(dir, other string) bool {
	owner, ok := ownerOf(dir)
	if !ok || owner.UID == os.Geteuid() {
		return true
	}
	as, ok := ownerOf(other)
	return ok && as.UID == owner.UID
}

// openRepository checks whether root is the root of a work tree.
func openRepository(root string) (Repository, bool) {
	r := Repository{Root: root, gitDir: filepath.Join(root, ".git")}
	info, err := os.Stat(r.gitDir)
	if err != nil {
		return r, false
	}
	if !info.IsDir() {
		to, ok := pointer(r.gitDir, "gitdir:")
		if !ok {
			return r, false
		}
		r.gitDir = within(root, to)
	}
	r.common = r.gitDir
	if to, ok := pointer(filepath.Join(r.gitDir, "commondir"), ""); ok {
		r.common = within(r.gitDir, to)
	}
	return r, validHead(r.gitDir) && isDir(filepath.Join(r.common, "objects")) && isDir(filepath.Join(r.common, "refs"))
}

// within is a path as it is read in a file below dir.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// pointer reads the one line of a small file that leads elsewhere.
func pointer(path, prefix string) (string, bool) {
	b, ok := small(path)
	line, ok2 := strings.CutPrefix(strings.TrimRight(string(b), "\r\n"), prefix)
	line = strings.TrimLeft(line, " ")
	return line, ok && ok2 && line != "" && !strings.ContainsAny(line, "\n\x00")
}

// small reads a file that is no larger than those of git are.
func small(path string) ([]byte, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() { // a pipe would not end
		return nil, false
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return b, err == nil
}

// validHead reports that HEAD names a ref or a commit.
func validHead(gitDir string) bool {
	path := filepath.Join(gitDir, "HEAD")
	if to, err := os.Readlink(path); err == nil {
		return strings.HasPrefix(to, "refs/")
	}
	b, ok := small(path)
	if !ok {
		return false
	}
	if ref, is := bytes.CutPrefix(b, []byte("ref:")); is {
		return bytes.HasPrefix(bytes.TrimLeft(ref, " \t"), []byte("refs/"))
	}
	const sha1 = 40
	hex := b[:len(b)-len(bytes.TrimLeft(b, "0123456789abcdef"))]
	return len(hex) >= sha1
}

// Main is the root of the repository's main work tree, if this work tree is linked to it
// (git worktree add). It is "" for the main work tree itself, for a submodule, and if the
// main repository does not know this work tree, is bare, or belongs to another user.
//
// The file .git of a linked work tree proves nothing: a file from an archive may name any
// repository. That repository itself must name this work tree, in the directory that the
// file leads to, and both must have one owner.
func (r Repository) Main() string {
	root := filepath.Dir(r.common)
	switch back, ok := pointer(filepath.Join(r.gitDir, "gitdir"), ""); {
	case r.common == r.gitDir, !ok, filepath.Base(r.common) != ".git":
		return ""
	case !same(filepath.Dir(r.gitDir), filepath.Join(r.common, "worktrees")), !same(within(r.gitDir, back), filepath.Join(r.Root, ".git")):
		return ""
	}
	main, ok := openRepository(root)
	if !ok || main.common != main.gitDir || !same(main.gitDir, r.common) || bare(r.common) {
		return ""
	}
	owner, known := ownerOf(root)
	if mine, ok := ownerOf(r.Root); known != ok || mine.UID != owner.UID || !ours(root, r.Root) {
		return ""
	}
	return root
}

// Worktree is git's name of a linked work tree: the name of its directory in
// .git/worktrees, which stays the same when the work tree is moved. It is "" if Main is
// "".
func (r Repository) Worktree() string {
	if r.Main() == "" {
		return ""
	}
	return filepath.Base(r.gitDir)
}

// same reports that two paths lead to one file.
func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// bare reports that a repository has no main work tree, as its configuration has it.
func bare(common string) bool {
	b, ok := small(filepath.Join(common, "config"))
	if !ok {
		return true // it cannot be read: not to be relied on
	}
	core, is := false, false
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.ToLower(strings.TrimSpace(s.Text()))
		if head, ok := strings.CutPrefix(line, "["); ok {
			name, rest, _ := strings.Cut(head, "]")
			core, line = strings.TrimSpace(name) == "core", strings.TrimSpace(rest)
		}
		key, value, has := strings.Cut(line, "=")
		if !core || strings.TrimSpace(key) != "bare" {
			continue
		}
		value, _, _ = strings.Cut(value, "#")
		value, _, _ = strings.Cut(value, ";")
		switch strings.Trim(strings.TrimSpace(value), `"`) {
		case "false", "no", "off", "0":
			is = false
		case "":
			is = !has // "bare" alone is true, "bare =" is false
		default:
			is = true
		}
	}
	return is
}
