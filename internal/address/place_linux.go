package address

import (
	"fmt"
	"os"
	"strings"
)

// whereNow is the path that the system has for an open directory; "" where it has none. Of
// a directory whose mount has gone it is what is left of the path.
func whereNow(dir *os.File) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return ""
	}
	return path
}
