// Package paths creates the directories and files of a log, and refuses unsafe places:
// all that it creates is where the user sees it.
package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ParentError reports a directory that was not created, since the directory above it is
// missing: the path is most likely misspelt.
type ParentError struct {
	Dir     string // that was to be made
	Missing string // the first directory on the way there that does not exist
}

func (e *ParentError) Error() string {
	return fmt.Sprintf("there is no directory %s, and so none for the log at %s: correct the path, or make that directory first; only the last element of a log's path is made", e.Missing, e.Dir)
}

// MakeDir creates a directory with mode 0700 if there is none. It returns a *ParentError
// if the directory above it does not exist, and a *LinkError if a link is in its place.
func MakeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		if link := NoLink(dir); link != nil {
			return link
		}
		if isDir(dir) {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR} // a file is there
	case errors.Is(err, fs.ErrNotExist):
		return &ParentError{dir, missing(filepath.Dir(dir))}
	}
	return err
}

// missing returns the highest directory above dir, or dir itself, that does not exist.
func missing(dir string) string {
	for up := filepath.Dir(dir); up != dir; up = filepath.Dir(dir) {
		if _, err := os.Stat(up); err == nil {
			break
		}
		dir = up
	}
	return dir
}
