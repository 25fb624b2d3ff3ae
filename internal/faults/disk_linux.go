package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cut stops every write to the disk as it is, without what the kernel keeps: the
// nearest to a power cut that can be had in a running machine.
func (d *disk) cut() error {
	const ext4Shutdown, withoutLog = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutLog); err != nil {
		return fmt.Errorf("cannot cut the power of %s: %w", d.dir, err)
	}
	return nil
}

// fill leaves so many bytes free, until undone.
func (d *disk) fill(left int64) (undo func() error, err error) {
	path := filepath.Join(d.dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	undo = func() error { return os.Remove(path) }
	for range 1000 { // others write meanwhile
		var st unix.Statfs_t
		if err := unix.Statfs(d.dir, &st); err != nil {
			return nil, errors.Join(err, undo())
		}
		if err = unix.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-left)); err == nil {
			return undo, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("cannot fill %s: %w", d.dir, err), undo())
}
