package address

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// TrustVariable names the users, by their numbers and separated by commas, whose
// directories this process uses as if they were its own.
const TrustVariable = "DSTREAM_TRUST_OWNER"

// OwnerError is a file or directory of another user: it may lead events, questions and
// their answers to a process of that user.
type OwnerError struct {
	Path  string
	Owner int // the user that it belongs to
	Me    int // the user of this process
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("dubious ownership: %s belongs to %s, and this process runs as %s: run it as the owner, use another directory (--dir), or, if you trust the owner with what you log and with the answers that you wait for, set %s=%d",
		e.Path, userName(e.Owner), userName(e.Me), TrustVariable, e.Owner)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (user %d)", u.Username, uid)
	}
	return fmt.Sprintf("user %d", uid)
}

// Owner is the user that a file belongs to.
func Owner(info fs.FileInfo) (uid int, known bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// Trusted reports whether this process uses what belongs to uid: its own user's, that of
// the users that TrustVariable names, and everything if it is root. Root is who works in a
// container on a project that is mounted there, and needs no host's word to be given
// something else to read.
func Trusted(uid int) bool { return trusts(os.Geteuid(), uid, os.Getenv(TrustVariable)) }

func trusts(me, uid int, named string) bool {
	return me == 0 || uid == me || slices.Contains(strings.Split(named, ","), strconv.Itoa(uid))
}

// CheckOwner returns an *OwnerError where path belongs to a user that this process does
// not trust. A path that is not there belongs to nobody. A link is judged by itself.
func CheckOwner(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if uid, known := Owner(info); known && !Trusted(uid) {
		return &OwnerError{path, uid, os.Geteuid()}
	}
	return nil
}
