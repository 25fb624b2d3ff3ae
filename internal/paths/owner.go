package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// User is the owner of a file.
type User struct{ UID, GID int }

func (u User) String() string {
	if named, err := user.LookupId(strconv.Itoa(u.UID)); err == nil {
		return named.Username
	}
	return "user " + strconv.Itoa(u.UID)
}

// OwnerOf returns the owner of the log's directory, or of the directory in which it will
// be created. It returns false if neither exists, and on a system without owners.
func OwnerOf(dir string) (User, bool) {
	if u, ok := ownerOf(dir); ok {
		return u, true
	}
	return ownerOf(filepath.Dir(dir))
}

func ownerOf(path string) (User, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return User{}, false
	}
	return Owner(info)
}

// Owner is the user that a file belongs to. It returns false on a system without owners.
func Owner(info fs.FileInfo) (User, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return User{}, false
	}
	return User{int(s.Uid), int(s.Gid)}, true
}

// Become turns a root process into this user, permanently: all files that the process,
// with its engine, creates from now on belong to the user, however the process ends. A
// weaker way would not cover the files of the engine, which creates a new file whenever
// one is full. dir is the directory for which it does so.
func Become(u User, dir string) error {
	groups := []int{u.GID}
	if named, err := user.LookupId(strconv.Itoa(u.UID)); err == nil {
		ids, _ := named.GroupIds() // without them, the directory's group must do
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				groups = append(groups, n)
			}
		}
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setregid(u.GID, u.GID), syscall.Setreuid(u.UID, u.UID)); err != nil {
		return fmt.Errorf("root cannot become %s here (%w)", u, err)
	}
	became = dir
	return nil
}

// became is the directory for which this process has become its owner; "" if it has not.
var became string

// Became reports whether this process, which root has started, has become another user.
func Became() bool { return became != "" }

// RootError reports a directory of another user, in which root would create files that
// this user cannot use.
type RootError struct {
	Dir   string
	Owner User
}

func (e *RootError) Error() string {
	return fmt.Sprintf("%s belongs to %s, who could not use what root makes there: run this as %s (sudo -u '#%d' …), or set %s=%d if root is to have the log from now on",
		e.Dir, e.Owner, e.Owner, e.Owner.UID, TrustVariable, e.Owner.UID)
}

// TrustVariable names the users, by their numbers and separated by commas, whose
// directories this process uses as if they were its own.
const TrustVariable = "DSTREAM_TRUST_OWNER"

// Names reports whether list, a value of TrustVariable, holds uid.
func Names(list string, uid int) bool {
	return slices.Contains(strings.Split(list, ","), strconv.Itoa(uid))
}

// NotAsRoot returns a *RootError if this process is root, and a log's directory belongs
// to another user that it is not told to trust.
func NotAsRoot(dir string) error {
	owner, ok := OwnerOf(dir)
	if !ok || owner.UID == 0 || os.Geteuid() != 0 || Names(os.Getenv(TrustVariable), owner.UID) {
		return nil
	}
	return &RootError{dir, owner}
}

// Denied explains a permission error: the file or directory, its owner, and how to give a
// log that root has created back to its user. It returns any other error unchanged.
func Denied(err error) error {
	var at *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at) {
		return err
	}
	path, aerr := filepath.Abs(at.Path)
	if aerr != nil {
		return err
	}
	// What cannot be looked at lies in a directory that does not let us in.
	for path != filepath.Dir(path) {
		if _, serr := os.Stat(path); serr == nil {
			break
		}
		path = filepath.Dir(path)
	}
	owner, ok := ownerOf(path)
	me := User{os.Geteuid(), os.Getegid()}
	if !ok || owner.UID == me.UID {
		return err
	}
	if rel, rerr := filepath.Rel(became, path); Became() && (rerr != nil || !filepath.IsLocal(rel)) {
		return fmt.Errorf("%w: %s belongs to %s, and this command runs as %s, to whom %s belongs: copy what it is to read to where that user can read it, and let it write where that user may",
			err, path, owner, me, became)
	}
	back := "run it as the owner"
	if log, in := logAround(path); in && owner.UID == 0 {
		back = fmt.Sprintf("if root has made it by mistake, 'sudo chown -R %d:%d %s' gives it back", me.UID, me.GID, log)
	}
	return fmt.Errorf("%w: %s belongs to %s, and this process runs as %s: %s", err, path, owner, me, back)
}

// logAround is the directory of the log in which a path is.
func logAround(path string) (string, bool) {
	for at := path; at != filepath.Dir(at); at = filepath.Dir(at) {
		switch name := filepath.Base(at); {
		case name == ".opencode":
			return at, true
		case strings.HasPrefix(name, "durable_stream"):
			return filepath.Dir(at), true
		}
	}
	return "", false
}
