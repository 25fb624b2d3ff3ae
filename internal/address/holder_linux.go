package address

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Holder gives pid back if that process of this machine, and of this container, is proven
// to hold the lock of a host's directory, and else 0. An address that names a process
// proves nothing: in another container the same number is another process.
func Holder(dir string, pid int) int {
	store, err := os.Stat(filepath.Join(dir, storeDir))
	if err != nil || pid <= 0 {
		return 0
	}
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(fds)
	if err != nil {
		return 0
	}
	for _, fd := range names {
		// What else it has open may lie on a mount that has died.
		to, err := os.Readlink(filepath.Join(fds, fd.Name()))
		if err != nil || !strings.HasSuffix(strings.TrimSuffix(to, " (deleted)"), "/"+storeDir) {
			continue
		}
		open, err := os.Stat(filepath.Join(fds, fd.Name()))
		if err != nil || !os.SameFile(open, store) {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		if err == nil && locks(string(info)) {
			return pid
		}
	}
	return 0
}

// locks reports that a descriptor's description holds an flock that nobody shares.
func locks(fdinfo string) bool {
	for line := range strings.Lines(fdinfo) {
		if strings.HasPrefix(line, "lock:") && strings.Contains(line, "FLOCK") && strings.Contains(line, "WRITE") {
			return true
		}
	}
	return false
}
