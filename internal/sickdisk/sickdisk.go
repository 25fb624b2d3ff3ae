// Package sickdisk gives tests file systems, and the faults that file systems have: no
// space, no inodes, and read-only at once. It needs Linux and root; where one of them is
// missing, every function returns an error that says so.
package sickdisk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Undo ends a fault.
type Undo func() error

// Tmpfs mounts a file system in memory on dir. options are mount's, such as
// "size=96m,nr_inodes=100".
func Tmpfs(dir, options string) error { return tmpfs(dir, options) }

// Ext4 makes an ext4 file system of size bytes in the file image, and mounts it on dir.
// options are those of mkfs.ext4, such as "-N", "4096".
func Ext4(dir, image string, size int64, options ...string) error {
	if err := supported(); err != nil {
		return err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	args := append(append([]string{"-q", "-F"}, options...), image)
	if out, err := exec.Command("mkfs.ext4", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("needs mkfs.ext4: %w: %s", err, out)
	}
	return mount("-o", "loop", image, dir)
}

// Detach unmounts dir, once nothing in it is open any more.
func Detach(dir string) error { return detach(dir) }

// FillBytes lets somebody else take the space of dir's file system but for left bytes, in
// one step.
func FillBytes(dir string, left int64) (Undo, error) {
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	undo := func() error { return os.Remove(path) }
	for range 1000 { // others write meanwhile
		if err = take(f, left); err == nil {
			return undo, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("cannot fill %s: %w", dir, err), undo())
}

// FillInodes lets somebody else take the inodes of dir's file system but for left.
func FillInodes(dir string, left int) (Undo, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	ballast := filepath.Join(dir, "inodes")
	if err := os.Mkdir(ballast, 0o700); err != nil {
		return nil, err
	}
	undo := func() error { return os.RemoveAll(ballast) }
	name := func(n int) string { return filepath.Join(ballast, fmt.Sprint(n)) }
	n := 0
	for {
		f, err := os.Create(name(n))
		if isFull(err) {
			break
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		n++
	}
	for i := range min(left, n) {
		if err := os.Remove(name(i)); err != nil {
			return nil, errors.Join(err, undo())
		}
	}
	return undo, nil
}

// ReadOnly remounts dir read-only. The kernel refuses that (EBUSY) while a file in it is
// open for writing: Abort does not ask.
func ReadOnly(dir string) (Undo, error) {
	if err := mount("-o", "remount,ro", dir); err != nil {
		return nil, err
	}
	return func() error { return mount("-o", "remount,rw", dir) }, nil
}

// Abort makes an ext4 file system read-only as an error of its disk does, under the
// processes that write to it. Only unmounting ends that.
func Abort(dir string) error { return mount("-o", "remount,abort", dir) }

func mount(args ...string) error {
	if err := supported(); err != nil {
		return err
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot mount here: %w: %s", err, out)
	}
	return nil
}
