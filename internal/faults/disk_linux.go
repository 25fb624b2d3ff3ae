package faults

import (
	"fmt"
	"os"

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
