package address

import (
	"bytes"
	"os"
	"syscall"
	"unsafe"
)

// whereNow is the path of a directory that is open; "" where it was removed, or cannot be
// told.
func whereNow(dir *os.File) string {
	var path [1024]byte
	_, _, failed := syscall.Syscall(syscall.SYS_FCNTL, dir.Fd(), syscall.F_GETPATH, uintptr(unsafe.Pointer(&path[0])))
	end := bytes.IndexByte(path[:], 0)
	if failed != 0 || end <= 0 {
		return ""
	}
	now := string(path[:end])
	there, err := os.Stat(now)
	here, herr := dir.Stat()
	if err != nil || herr != nil || !os.SameFile(there, here) { // it keeps its path when it is removed
		return ""
	}
	return now
}
