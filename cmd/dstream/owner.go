package main

import (
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/internal/address"
	"durablestream/internal/paths"
)

// ownProcess: this process runs one command and nothing else, and so may change its user.
var ownProcess bool

// asOwner gives up the rights of root for those of the user whose directory the log is
// in, as with sudo, or in a container with the project mounted: the user's own commands
// must go on afterwards with what this one has made. What a user has only put into a
// directory of somebody else, root does not use.
func (o *options) asOwner() error {
	dir := absolute(o.dir)
	if err := address.CheckPlaced(filepath.Join(dir, durablestream.HostDir)); err != nil {
		return err
	}
	return becomeOwner(dir)
}

// becomeOwner is asOwner for any directory that is written into, or made with those above.
func becomeOwner(dir string) error {
	for above := filepath.Dir(dir); above != dir && !exists(above); above = filepath.Dir(dir) {
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
