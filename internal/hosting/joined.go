package hosting

import (
	"path/filepath"
	"sync"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/address"
)

// joined is the log that a process has opened, and whether it still exists.
//
// Safety: as soon as the process knows its log, it connects to no host of another one,
// and takes over no other one. The host's proof names its log, and a take-over compares
// the log in the directory, under the lock.
type joined struct {
	dir string // of the host

	mu    sync.Mutex // guards the fields below
	log   string     // its identity; "" before the process has opened it
	place address.Place
	gone  *client.GoneError // nil while the log exists
	old   bool              // the warning that the host is of an earlier version was logged
}

// opened records the log's identity, the first time.
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

// why returns the *client.GoneError while the log is gone, else nil.
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

// is records the identity of the log that is in the directory now, "" for none. It
// returns the *client.GoneError if that is not the opened log.
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
	if j.gone == nil || *j.gone != e { // a caller may hold it, so it never changes
		j.gone = &e
	}
	return j.gone
}

// look looks for the log in the directory. On a read error it changes nothing, and the
// next call looks again.
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
