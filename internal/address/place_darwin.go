package address

import (
	"bytes"
	"os"
	"syscall"
	"unsafe"
)

// whereNow is the path that the system has for an open directory, also when it was removed
// since; "" where it has none.
func whereNow(dir *os.File) string {
	var path [1024]byte
	_, _, failed := syscall.Syscall(syscall.SYS_FCNTL, dir.Fd(), syscall.F_GETPATH, uintptr(unsafe.Pointer(&path[0])))
	end := bytes.IndexByte(path[:], 0)
	if failed != 0 || end <= 0 {
		return ""
	}
	return string(path[:end])
}
