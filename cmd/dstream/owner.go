package main

import (
	"os"

	"durablestream/internal/paths"
)

// ownProcess: this process runs one command and nothing else, and so may change its user.
var ownProcess bool

// asOwner gives up the rights of root for those of the user whose directory the log is
// in, as with sudo, or in a container with the project mounted: the user's own commands
// must go on afterwards with what this one has made.
func (o *options) asOwner() error {
	dir := absolute(o.dir)
	owner, ok := paths.OwnerOf(dir)
	if os.Geteuid() != 0 || !ok || owner.UID == 0 || paths.NotAsRoot(dir) == nil {
		return nil
	}
	if !ownProcess || paths.Become(owner) != nil {
		return &paths.RootError{Dir: dir, Owner: owner}
	}
	return nil
}
