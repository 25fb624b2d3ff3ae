package address

import (
	"bytes"
	"fmt"
	"os"
)

// Stopped reports whether a process is stopped: it neither runs nor has ended. A
// process that cannot be looked at counts as running.
func Stopped(pid int) bool {
	// The state follows the name, which is in parentheses and may hold some.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return err == nil && ok && len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't')
}
