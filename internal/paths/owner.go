package paths

import (
	"os"
	"syscall"
)

// owner is to whom a file belongs.
type owner struct{ uid, gid int }

// ownerOf tells to whom a file belongs, where the system knows owners.
func ownerOf(path string) (owner, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return owner{}, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}, false
	}
	return owner{int(s.Uid), int(s.Gid)}, true
}
