package paths

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Shared reports whether another name, most likely in another directory, leads to the
// same file, as `cp -al` makes it: a write here is a write there.
func Shared(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().IsRegular() && st.Nlink > 1, nil
}

// Own replaces a shared file with a copy of its own under the same name. The other names
// keep the old file. After a crash the name leads to the old or the new file, and a
// temporary copy may be left, which the next call replaces.
func Own(path string) (changed bool, err error) {
	shared, err := Shared(path)
	if err != nil || !shared {
		return false, err
	}
	if err := ownCopy(path, path+".own.tmp"); err != nil {
		return false, fmt.Errorf("%s is a hard link, and shared with another directory (cp -al): it cannot be copied: %w", path, err)
	}
	return true, nil
}

func ownCopy(path, tmp string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Sync(), to.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // or it is replaced the next time
	}
	return err
}
