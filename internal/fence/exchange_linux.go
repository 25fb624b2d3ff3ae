package fence

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// exchange puts a link to target in the place of the directory from, and the directory at
// to, in one step. It reports false where the file system cannot: then nothing is changed.
func exchange(from, to, target string) (bool, error) {
	if err := os.Symlink(target, to); err != nil {
		return false, nil //nolint:nilerr // there are no links
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if err != nil {
		return false, os.Remove(to)
	}
	return true, errors.Join(syncDir(filepath.Dir(from)), syncDir(filepath.Dir(to)))
}
