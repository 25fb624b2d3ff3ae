package place

import (
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/internal/address"
	"durablestream/internal/paths"
)

var ownProcess bool

// OwnProcess says that this process runs one command and nothing else, and so may change
// its user. It is called before anything else.
func OwnProcess() { ownProcess = true }

// AsOwner gives up the rights of root for those of the user whose directory the log is
// in, as with sudo, or in a container with the project mounted: the user's own commands
// must go on afterwards with what this one has made. What a user has only put into a
// directory of somebody else, root does not use.
func AsOwner(dir string) error {
	dir = paths.Absolute(dir)
	if err := address.CheckPlaced(filepath.Join(dir, durablestream.HostDir)); err != nil {
		return err
	}
	return BecomeOwner(dir)
}

// BecomeOwner is AsOwner for any directory that is written into, or made with those above.
func BecomeOwner(dir string) error {
	for above := filepath.Dir(dir); above != dir && !paths.Exists(above); above = filepath.Dir(dir) {
		dir = above
	}
	if err := address.CheckPlaced(dir); err != nil {
		return err
	}
	owner, ok := paths.OwnerOf(dir)
	if os.Geteuid() != 0 || !ok || owner.UID == 0 || paths.NotAsRoot(dir) == nil {
		return nil
	}
	if !ownProcess || paths.Become(owner, dir) != nil {
		return &paths.RootError{Dir: dir, Owner: owner}
	}
	return nil
}
