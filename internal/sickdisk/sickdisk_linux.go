package sickdisk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func supported() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it mounts file systems")
	}
	return nil
}

func tmpfs(dir, options string) error {
	if err := supported(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("cannot mount a tmpfs here: %w", err)
	}
	return nil
}

func detach(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }

// take lets a file grow until left bytes are free.
func take(f *os.File, left int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	return unix.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-left))
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) }
