package room

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func readOnly(st *unix.Statfs_t) bool { return st.Flags&unix.ST_RDONLY != 0 }

// reserve makes a file of so many bytes without writing them.
func reserve(f *os.File, size int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
