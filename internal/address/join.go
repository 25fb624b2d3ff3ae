package address

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
)

// storeDir is what a host keeps locked, beside its address.
const storeDir = "store"

var (
	// ErrNoHost means that there is an address, but no process holds the directory's
	// lock: the host has ended.
	ErrNoHost = errors.New("the host that left its address has gone")

	// ErrUnproven means that the process at an address has not proven that it hosts this
	// directory: the address was copied from another directory, or the host is just
	// starting or ending.
	ErrUnproven = errors.New("what answers there does not show that it hosts this directory")
)

// DistrustError reports an address file that a host of this directory and this user
// cannot have left in this state: it came with a copy, a clone or an archive, or another
// program has changed it.
type DistrustError struct{ Path, Why string }

func (e *DistrustError) Error() string {
	return fmt.Sprintf("the address in %s is not used: %s. A host that runs writes it anew within a second; if it does not, end it and start it again", e.Path, e.Why)
}

// Host is a host that this process may join.
type Host struct {
	Address
	// Log is the identity of the log that it hosts; "" if it has not reported one.
	Log string
	// Proven: the host has shown that it sees this directory. A host of an earlier
	// version cannot show it, and no host can on a disk that accepts no new file.
	Proven bool
	// Old: the host's version has no proof.
	Old bool
}

// Find reads the address at path, and finds out whether the process at that address hosts
// the directory of path. It asks that process only for a proof, and sends it no data.
//
// Safety: a process that joins sends its events to the host, and trusts the host's
// answers. So only this user may have access to the directory and the file, the address
// must be on this machine, a process must hold this directory's lock, and the host must
// show that it sees a file that Find has just created here. A clone, a copy or an archive
// has a free lock. A copy that begins to host has a lock, and for a moment the original's
// address, but the original's host does not see the file.
func Find(path string) (Host, error) {
	dir := filepath.Dir(path)
	owner, err := ownDir(dir)
	if err != nil {
		return Host{}, err
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Host{}, ErrNone
	}
	if err != nil {
		return Host{}, fmt.Errorf("address: %w", err)
	}
	held, err := Held(dir)
	if err != nil {
		return Host{}, err
	}
	if !held {
		return Host{}, fmt.Errorf("%s: %w", path, ErrNoHost)
	}
	if why := distrust(info, owner); why != "" {
		return Host{}, &DistrustError{path, why}
	}
	a, err := Read(path)
	if err != nil {
		return Host{}, err
	}
	if err := here(a.URL); err != nil {
		return Host{}, &DistrustError{path, err.Error()}
	}
	if a.Prove == "" {
		return Host{Address: a, Old: true}, nil
	}
	return prove(dir, a)
}

// ReadOwn is Read for the host that has written the file: it accepts only a file that
// joining processes would accept.
func ReadOwn(path string) (Address, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Address{}, fmt.Errorf("address: %w", err)
	}
	if why := distrust(info, os.Geteuid()); why != "" {
		return Address{}, &DistrustError{path, why}
	}
	return Read(path)
}

// ownDir requires that dir is a directory, not a link, of a user that this process
// trusts. It removes the access of others that the umask or an earlier version has left.
func ownDir(dir string) (owner int, err error) {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ErrNone
	}
	if err != nil {
		return 0, fmt.Errorf("address: %w", err)
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("address: %s is a link, or no directory, and a link may lead into somebody else's log: remove it, or name the directory itself (--dir)", dir)
	}
	if err := CheckOwner(dir); err != nil {
		return 0, err
	}
	owner, known := Owner(info)
	if !known {
		owner = os.Geteuid()
	}
	return owner, Tighten(dir)
}

// Tighten leaves only the owner's permissions on a directory of this user. It fails only
// if others could still write there.
func Tighten(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	uid, known := Owner(info)
	if info.Mode().Perm()&0o077 == 0 || !info.IsDir() || !known {
		return nil
	}
	if me := os.Geteuid(); me == 0 || me == uid {
		if err = os.Chmod(dir, info.Mode().Perm()&0o700); err == nil {
			return nil
		}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("address: others may write into %s (mode %04o), and could lead this process elsewhere: chmod 700 it: %w", dir, info.Mode().Perm(), err)
	}
	return nil
}

// distrust returns the reason why no host can have left an address file; "" if a host may
// have left it.
func distrust(info fs.FileInfo, owner int) string {
	uid, known := Owner(info)
	st, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return "it is no file, or a link to one"
	case known && uid != owner && uid != os.Geteuid() && uid != 0:
		return fmt.Sprintf("it belongs to %s, and the directory to %s", userName(uid), userName(owner))
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Sprintf("its mode is %04o, and a host makes it with 0600", info.Mode().Perm())
	case st != nil && st.Nlink > 1:
		return "another name leads to the same file (a hard link)"
	}
	return ""
}

// Held reports whether a process holds the lock of a host's directory. If the lock is
// free, no process hosts there, whatever an address or a process id says.
func Held(dir string) (bool, error) {
	store := filepath.Join(dir, storeDir)
	if info, err := os.Lstat(store); err != nil || !info.IsDir() {
		return false, nil //nolint:nilerr // no store, no host
	}
	lock := flock.New(store, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil {
		return false, fmt.Errorf("address: %w", err)
	}
	if free {
		return false, lock.Unlock()
	}
	return true, nil
}

// here requires that a URL leads to this machine.
func here(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%q is no address", address)
	}
	ips := []net.IP{net.ParseIP(strings.Trim(u.Hostname(), "[]"))}
	if ips[0] == nil {
		if u.Hostname() == "localhost" {
			return nil
		}
		if ips, err = net.LookupIP(u.Hostname()); err != nil {
			return fmt.Errorf("%s cannot be looked up: %w", u.Hostname(), err)
		}
	}
	for _, ip := range ips {
		if !local(ip) {
			return fmt.Errorf("%s is another machine (to use the log of one, name it with --server)", u.Host)
		}
	}
	return nil
}

// local reports whether an address is this machine's own.
func local(ip net.IP) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range mine {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
