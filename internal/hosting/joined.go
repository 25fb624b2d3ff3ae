package hosting

import (
	"path/filepath"
	"sync"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/address"
)

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
	gone  *client.GoneError // nil while it is there
	old   bool              // it was said that the host is of an earlier version
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

// why is the *client.GoneError while the log is not there, else nil.
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
// the *client.GoneError if it is not the one that was opened.
func (j *joined) is(log string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == "" || log == j.log {
		j.gone = nil
		return nil
	}
	e := client.GoneError{Dir: filepath.Dir(j.dir), Other: log != ""}
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
