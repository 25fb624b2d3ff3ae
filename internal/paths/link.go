package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LinkError reports a symbolic link in the place of a log's own directory or file. The
// program does not follow it: a repository, an archive or a copy can bring a link to any
// place that this user may write to, or into another project's log.
type LinkError struct {
	Path, To string
	// Log: Path is the log's directory, which may be named by its target instead.
	Log bool
}

func (e *LinkError) Error() string {
	const why = "%s is a symbolic link to %s, and nothing is read or written through it, since a clone or a copy can bring a link that leads anywhere: "
	if e.Log {
		return fmt.Sprintf(why+"if the log is to be there, name that directory itself (--dir %s, or DSTREAM_DIR)", e.Path, e.To, e.To)
	}
	return fmt.Sprintf(why+"put the file or directory itself there, or remove the link", e.Path, e.To)
}

// NoLink returns a *LinkError if path is a symbolic link, and a *SpecialError if it is
// neither a regular file nor a directory. It accepts a path that does not exist.
func NoLink(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case err != nil:
		return err
	case special(info.Mode()):
		return &SpecialError{path}
	case info.Mode()&fs.ModeSymlink == 0:
		return nil
	}
	return linkError(path)
}

func linkError(path string) error {
	to, err := os.Readlink(path)
	if err != nil {
		return err
	}
	return &LinkError{Path: path, To: within(filepath.Dir(path), to)}
}

// NoLogLink is NoLink for the directory of a log.
func NoLogLink(dir string) error {
	err := NoLink(dir)
	var link *LinkError
	if errors.As(err, &link) {
		link.Log = true
	}
	return err
}

// NoProjectLink returns a *LinkError for the first symbolic link on the way to a file in a
// log's directory dir or in a work tree of git: a clone may have brought it. It follows the
// links above dir, and those of any other place, as of secrets that are mounted.
func NoProjectLink(dir, path string) error {
	dir, path = located(dir), located(path)
	root, inLog := dir, isBelow(path, dir)
	if above, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil && !inLog {
		root = filepath.Join(above, filepath.Base(dir)) // the same directory by its other name
		inLog = isBelow(path, root)
	}
	if inLog {
		if err := NoLogLink(root); err != nil {
			return err
		}
	} else if root = outermost(filepath.Dir(path)); root == "" {
		return nil
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(rel, string(filepath.Separator)) {
		root = filepath.Join(root, name)
		if err := NoLink(root); err != nil {
			return err
		}
	}
	return nil
}

// located is the absolute path of what a command names, without the links by which its
// user may have come to the working directory.
func located(path string) string {
	at, err := os.Getwd()
	if err == nil && !filepath.IsAbs(path) {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil || filepath.IsAbs(path) {
		return Absolute(path)
	}
	return filepath.Join(at, path)
}

func isBelow(path, root string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}

// outermost is the root of the work tree around dir that is in no other one: of two, the
// inner one may be where a link of the outer one leads. "": there is none.
func outermost(dir string) (root string) {
	for !Exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	for {
		repo, ok := FindRepository(dir)
		if !ok {
			return root
		}
		if root, dir = repo.Root, filepath.Dir(repo.Root); root == dir {
			return root
		}
	}
}

// NoLinksBelow returns a *LinkError for the first symbolic link in dir that allowed, which
// is given the link and its target relative to dir, does not permit. A target that is
// absolute is never permitted; one outside of dir begins with "..".
func NoLinksBelow(dir string, allowed func(link, to string) bool) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since its directory was listed
		}
		if err != nil || e.Type()&fs.ModeSymlink == 0 {
			return err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		link, err := filepath.Rel(dir, path)
		inside := filepath.Join(filepath.Dir(link), to)
		if err == nil && !filepath.IsAbs(to) && allowed(link, inside) {
			return nil
		}
		return linkError(path)
	})
}

// RegularBelow returns a *SpecialError for the first entry of dir that is neither a regular
// file, nor a directory, nor a link. It does not look below the directory except in dir.
func RegularBelow(dir, except string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed since its directory was listed
		case err != nil:
			return err
		case e.IsDir() && path == filepath.Join(dir, except):
			return fs.SkipDir
		case special(e.Type()):
			return &SpecialError{path}
		}
		return nil
	})
}
