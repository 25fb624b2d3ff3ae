//go:build !linux

package address

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Holder gives pid back if that process of this machine has the lock of a host's
// directory, and else 0. An address that names a process proves nothing: in a virtual
// machine that shares the directory the same number is another process. lsof tells; where
// it is missing nothing is proven.
func Holder(dir string, pid int) int {
	if pid <= 0 {
		return 0
	}
	out, err := exec.Command("lsof", "-a", "-p", strconv.Itoa(pid), "-F", "n", "--", filepath.Join(dir, storeDir)).Output()
	if err == nil && strings.Contains(string(out), "p"+strconv.Itoa(pid)+"\n") {
		return pid
	}
	return 0
}
