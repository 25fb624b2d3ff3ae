package address

import (
	"fmt"
	"os"
	"strings"
)

// whereNow is the path of a directory that is open; "" where it was removed, or cannot be
// told.
func whereNow(dir *os.File) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return ""
	}
	return path
}
