package mirror

import (
	"os"

	"golang.org/x/sys/unix"
)

// letGo tells the kernel that nobody reads the synced bytes soon. In a catch-up all of the
// Log passes through here once, and would push out of the page cache what is read, such
// as the Log's own files; and the memory is used again for the next batch, where a
// virtual machine may have to fetch more from its host, at ten times the cost of the
// write. It is advice: whether it is taken does not matter.
func letGo(f *os.File, at, n int64) {
	_ = unix.Fadvise(int(f.Fd()), at, n, unix.FADV_DONTNEED)
}
