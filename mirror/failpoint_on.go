//go:build failpoints

package mirror

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var failpointHits atomic.Int64

// failpoint ends this process at once, with no chance to do anything more, before the
// step that DSTREAM_FAILPOINT names: "fsync:3" is the third fsync. It is there only
// in programs that are built for internal/faults.
func failpoint(op string) error {
	name, count, _ := strings.Cut(os.Getenv("DSTREAM_FAILPOINT"), ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if op == name && err == nil && failpointHits.Add(1) == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it has come
	}
	return nil
}
