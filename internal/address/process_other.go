//go:build !linux

package address

import (
	"os/exec"
	"strconv"
	"strings"
)

// Stopped reports whether a process is stopped: it neither runs nor has ended. A
// process that cannot be looked at counts as running.
func Stopped(pid int) bool {
	state, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(state)), "T")
}
