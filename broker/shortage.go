package broker

import (
	"fmt"
	"os"
	"path/filepath"

	"durablestream/internal/room"
)

// ShortageError is a machine that gives a host too little to start. Of a log that exists
// nothing was changed.
type ShortageError struct {
	Dir         string // of the host
	Descriptors bool   // file descriptors; else inodes of the file system
	Have, Need  int64
}

func (e *ShortageError) Error() string {
	if e.Descriptors {
		return fmt.Sprintf("broker: this process can open %d more files, and a host needs %d, and one more for each process that joins: "+
			"raise its limit (ulimit -n; LimitNOFILE= of systemd; nofile in limits.conf) and start it again", e.Have, e.Need)
	}
	return fmt.Sprintf("broker: the file system of %s has %d free inodes, and a host needs %d to start there: "+
		"remove files, however small they are ('df -i' counts them), or use another file system", e.Dir, e.Have, e.Need)
}

const (
	// A new log takes 22 files and directories with its mirror; a host of one that exists
	// takes a few files for a moment.
	inodesNew = 32
	inodesOld = 8
	// descriptorsNeeded is what an idle host has open, three times over: the engine opens a
	// file for each block that it reads, and one for each batch that is under way.
	descriptorsNeeded = 64
)

// Shortage returns a *ShortageError where a host in dir could not start.
func Shortage(dir string) error {
	if have := room.Descriptors(); have < descriptorsNeeded {
		return &ShortageError{Dir: dir, Descriptors: true, Have: max(0, have), Need: descriptorsNeeded}
	}
	return ShortOfInodes(dir)
}

// ShortOfInodes returns a *ShortageError where the file system of dir has too few free
// inodes for a host to start.
func ShortOfInodes(dir string) error {
	need := int64(inodesNew)
	if _, err := os.Stat(filepath.Join(dir, StoreDir, "jetstream")); err == nil {
		need = inodesOld
	}
	at := dir
	for _, err := os.Stat(at); err != nil && at != filepath.Dir(at); _, err = os.Stat(at) {
		at = filepath.Dir(at)
	}
	if r, err := room.Of(at); err == nil && r.Inodes >= 0 && r.Inodes < need {
		return &ShortageError{Dir: dir, Have: r.Inodes, Need: need}
	}
	return nil
}
