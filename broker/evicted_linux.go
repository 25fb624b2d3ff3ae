package broker

import (
	"fmt"
	"os"
)

// pathOf is a path to a directory that is open, wherever it is now.
func pathOf(dir *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", dir.Fd()) }
