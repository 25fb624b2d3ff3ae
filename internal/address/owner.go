package address

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"durablestream/internal/paths"
)

// OwnerError reports a file or directory of another user: it may lead events, questions
// and their answers to a process of that user.
type OwnerError struct {
	Path  string
	Owner int // the user that it belongs to
	Me    int // the user of this process
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("dubious ownership: %s belongs to %s, and this process runs as %s: run it as the owner, use another directory (--dir), or, if you trust the owner with what you log and with the answers that you wait for, set %s=%d",
		e.Path, userName(e.Owner), userName(e.Me), paths.TrustVariable, e.Owner)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (user %d)", u.Username, uid)
	}
	return fmt.Sprintf("user %d", uid)
}

// Owner is the user that a file belongs to.
func Owner(info fs.FileInfo) (uid int, known bool) {
	u, known := paths.Owner(info)
	return u.UID, known
}

// Trusted reports whether this process uses the files of uid: its own user, the users
// that paths.TrustVariable names, and every user if the process is root. Root works in
// containers on mounted projects, and anybody who can mislead root there needs no host
// for it.
func Trusted(uid int) bool { return trusts(os.Geteuid(), uid, os.Getenv(paths.TrustVariable)) }

func trusts(me, uid int, named string) bool {
	return me == 0 || uid == me || paths.Names(named, uid)
}

// CheckOwner returns an *OwnerError if a host's directory belongs to a user that this
// process does not trust, or if another user has put this directory, or the log's
// directory around it, in root's way (see CheckPlaced). It accepts a missing path. For a
// link it checks the link itself.
func CheckOwner(path string) error {
	uid, known, err := ownerAt(path, os.Lstat)
	if err != nil {
		return err
	}
	if known && !Trusted(uid) {
		return &OwnerError{path, uid, os.Geteuid()}
	}
	if err := CheckPlaced(filepath.Dir(path)); err != nil {
		return err
	}
	return CheckPlaced(path)
}

// CheckPlaced returns an *OwnerError if this process is root, and path belongs to another
// user while the directory around it does not.
//
// Safety: root uses a user's files in a directory of that user. In a directory where
// every user may create files, such as /tmp, a path shows only which user came first, and
// root would trust a stranger's answers. Root may name the owner in paths.TrustVariable, and
// sudo names the user that called it.
func CheckPlaced(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	uid, known, err := ownerAt(path, os.Lstat)
	if err != nil || !known || uid == 0 || called(uid) {
		return err
	}
	around, known, err := ownerAt(filepath.Dir(path), os.Stat) // a link to it says nothing
	if err != nil || !known || around == uid {
		return err
	}
	return &OwnerError{path, uid, 0}
}

// called reports whether root itself or sudo has named uid.
func called(uid int) bool {
	return os.Getenv("SUDO_UID") == strconv.Itoa(uid) || paths.Names(os.Getenv(paths.TrustVariable), uid)
}

// ownerAt is the owner of the file at path; unknown if there is none.
func ownerAt(path string, stat func(string) (fs.FileInfo, error)) (uid int, known bool, err error) {
	info, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("address: %w", err)
	}
	uid, known = Owner(info)
	return uid, known, nil
}
