package durablestream

import (
	"fmt"
	"path/filepath"
	"sync"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/address"
)

// GoneError says that the log that this process had opened is no longer at its place. This
// process makes none in its stead, and uses no other that it finds there. Should the
// directory come back, it goes on.
type GoneError struct {
	Dir   string // where it was
	Now   string // where it is, as far as this process can see; "": it was removed, or nobody can tell
	Other bool   // another log is in Dir
}

func (e *GoneError) Error() string {
	s := fmt.Sprintf("the log of %s was moved or removed while this process used it", e.Dir)
	switch {
	case e.Now != "":
		s = fmt.Sprintf("the log of %s was moved to %s while this process used it: use it there (--dir %s), or move it back", e.Dir, e.Now, e.Now)
	case e.Other:
		s += ", and another log is in its place"
	}
	return s + "; nothing was appended in its stead"
}

// Unwrap gives client.ErrOtherLog or client.ErrGone.
func (e *GoneError) Unwrap() error {
	if e.Other {
		return client.ErrOtherLog
	}
	return client.ErrGone
}

// joined is the log that a process has opened, and whether it is still there.
//
// Safety: from the first moment on that the process knows its log, it goes to no host of
// another one, and takes over no other one: the host says in its proof which log it has,
// and who takes over compares what lies in the directory, under the lock.
type joined struct {
	dir string // of the host

	mu    sync.Mutex // guards these
	log   string     // its identity; "" before the process has opened it
	place address.Place
	gone  *GoneError // nil while it is there
	old   bool       // it was said that the host is of an earlier version
}

// opened notes which log it is, at the first time.
func (j *joined) opened(log string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == "" {
		j.log, j.place = log, address.Keep(j.dir)
	}
}

func (j *joined) expected() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log
}

// why is the *GoneError while the log is not there, else nil.
func (j *joined) why() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.gone == nil {
		return nil
	}
	return j.gone
}

func (j *joined) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.place.Close()
}

// is notes the identity of the log that is in the directory now, "" for none, and returns
// the *GoneError if it is not the one that was opened.
func (j *joined) is(log string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == "" || log == j.log {
		j.gone = nil
		return nil
	}
	e := GoneError{Dir: filepath.Dir(j.dir), Other: log != ""}
	if now := j.place.Now(); now != "" && now != j.dir {
		e.Now = filepath.Dir(now)
	}
	if j.gone == nil || *j.gone != e { // it may have been handed out, and is not changed
		j.gone = &e
	}
	return j.gone
}

// look looks into the directory for the log. What cannot be read now is looked at again.
func (j *joined) look() error {
	if j.expected() == "" {
		return nil
	}
	log, err := broker.LogIn(j.dir)
	if err != nil {
		return err
	}
	return j.is(log)
}

// joining judges what was found at the address: see client.Target.
func (h *hosting) joining(host address.Host, err error) error {
	if err != nil {
		if gone := h.log.look(); gone != nil {
			err = h.lose(gone)
		}
		return err
	}
	if host.Log == "" {
		err = h.log.look()
	} else {
		err = h.log.is(host.Log)
	}
	if err != nil {
		return h.lose(err)
	}
	h.log.mu.Lock()
	told := h.log.old
	h.log.old = told || host.Old
	h.log.mu.Unlock()
	switch {
	case host.Old && !told:
		h.cfg.Logger.Warn(fmt.Sprintf("the host of the log (process %d as it says, version %s) is of an earlier version, and cannot prove that it has this directory; its lock and its owner are right: start it again with this version", host.PID, host.Version))
	case !host.Old && !host.Proven:
		h.cfg.Logger.Info("the host of the log cannot prove that it has this directory, since the disk takes no file; its lock and its owner are right")
	}
	return nil
}

// lose passes on why there is no log to go on with, and tells those who stand by for one
// that is gone.
func (h *hosting) lose(err error) error {
	if h.log.why() != nil {
		h.loseOnce.Do(func() { close(h.lost) })
	}
	return err
}
