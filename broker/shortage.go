package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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
	if have := descriptors(); have < descriptorsNeeded {
		return &ShortageError{Dir: dir, Descriptors: true, Have: max(0, have), Need: descriptorsNeeded}
	}
	need := int64(inodesNew)
	if _, err := os.Stat(filepath.Join(dir, StoreDir, "jetstream")); err == nil {
		need = inodesOld
	}
	at := dir
	for _, err := os.Stat(at); err != nil && at != filepath.Dir(at); _, err = os.Stat(at) {
		at = filepath.Dir(at)
	}
	if r, err := roomOf(at); err == nil && r.inodes >= 0 && r.inodes < need {
		return &ShortageError{Dir: dir, Have: r.inodes, Need: need}
	}
	return nil
}

// descriptors is how many more files this process can open. Go has raised the soft limit
// to the hard one when the process began.
func descriptors() int64 {
	var l unix.Rlimit
	open, err := os.ReadDir("/dev/fd")
	if errors.Is(err, unix.EMFILE) {
		return 0
	}
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur > 1<<40 {
		return 1 << 40 // not known, or no limit
	}
	return int64(l.Cur) - int64(len(open)) //nolint:gosec // it was compared
}
