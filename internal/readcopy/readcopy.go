// Package readcopy makes a store that a host can run on out of one that nobody can write
// to: on a read-only disk, or in a directory whose permissions have been taken away.
//
// The engine writes to a store even where it is only read. The copy holds the small and
// the changing files, and links to the rest: a full block never changes, and a link to a
// block that this process cannot write does not let the engine change it either. So a
// copy costs one block, 8 MiB, however large the log is. A block that this process could
// write, in a directory that it cannot, is copied.
//
// A copy lies in the directory for temporary files. Remove takes it away; the copy of a
// process that was killed goes when the next one is made.
package readcopy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"durablestream/internal/engine"
	"durablestream/internal/index"
)

const (
	prefix = "dstream-read-"
	// ownFile is locked while somebody uses the copy.
	ownFile = "copy.lock"
)

// Copy is a temporary copy of a host directory.
type Copy struct {
	Dir  string   // stands for the host directory
	lock *os.File // held until Remove
}

// ErrInUse is a log that somebody hosts: it changes, and its host answers questions.
var ErrInUse = errors.New("another process hosts the log")

// Make copies the store of a host directory, with what it needs of the files beside it.
// store is the name of the store there, and files are names of further directories.
func Make(host, store string, files ...string) (_ *Copy, err error) {
	release, err := share(filepath.Join(host, store))
	if err != nil {
		return nil, err
	}
	defer release()
	sweep()
	dir, err := os.MkdirTemp("", prefix+"*") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("readcopy: cannot make a temporary copy (TMPDIR names the directory for it): %w", err)
	}
	c := &Copy{Dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Remove())
		}
	}()
	if err := c.own(); err != nil {
		return nil, err
	}
	for _, name := range append(files, store) {
		if err := copyTree(filepath.Join(host, name), filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("readcopy: cannot copy %s: %w", filepath.Join(host, name), err)
		}
	}
	return c, nil
}

// Remove takes the copy away.
func (c *Copy) Remove() error {
	err := os.RemoveAll(c.Dir)
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("readcopy: cannot remove the temporary copy: %w", err)
	}
	return nil
}

// own locks the copy. The lock has its name only once it is held, so that nobody finds it
// free in between.
func (c *Copy) own() error {
	path := filepath.Join(c.Dir, ownFile)
	f, err := os.OpenFile(path+".tmp", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		c.lock = f
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("readcopy: %w", err)
	}
	return nil
}

// share keeps a host from beginning, where one could, while its store is copied. Where
// the file system has no locks there is nobody to keep.
func share(store string) (release func(), err error) {
	f, err := os.Open(store)
	if err != nil {
		return nil, fmt.Errorf("readcopy: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(ErrInUse, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes the copies that processes of this user have left when they were killed.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // a name like a pattern finds too little
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, ownFile))
		if err != nil {
			continue // somebody is making it
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(dir) // or the next one does
		}
		_ = f.Close()
	}
}

// copyTree copies a directory, or nothing where there is none. Links inside are relative
// and lead to the copy's own files.
func copyTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Mkdir(to, 0o700)
	}
	newest := newestBlock(entries)
	for _, e := range entries {
		if err != nil {
			return err
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.Name() == engine.ConsumerDir && e.IsDir(): // readers, which have gone
		case e.IsDir():
			err = copyTree(src, dst)
		case e.Type()&fs.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(src); err == nil && !filepath.IsAbs(target) {
				err = os.Symlink(target, dst)
			}
		case e.Type().IsRegular() && e.Name() != newest && unchanging(e.Name()) && unix.Access(src, unix.W_OK) != nil:
			err = link(src, dst)
		case e.Type().IsRegular():
			err = copyFile(src, dst)
		}
	}
	return err
}

// unchanging reports a block, or the index of one that is full.
func unchanging(name string) bool {
	return strings.HasSuffix(name, engine.BlockSuffix) || strings.HasSuffix(name, index.Suffix)
}

// newestBlock is the name of the block that the engine goes on with.
func newestBlock(entries []fs.DirEntry) (name string) {
	most := -1
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), engine.BlockSuffix)
		if n, err := strconv.Atoi(base); ok && err == nil && n > most {
			most, name = n, e.Name()
		}
	}
	return name
}

func link(src, dst string) error {
	abs, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	return os.Symlink(abs, dst)
}

// copyFile copies a file with its time, by which a block is known again.
func copyFile(src, dst string) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Chtimes(dst, info.ModTime(), info.ModTime())
}
