package client

import "fmt"

// GoneError is a Log that this process had opened and that is no longer at its place.
// This process does not create another in its place, and does not use another that it
// finds there. If the directory returns, the process continues.
type GoneError struct {
	Dir   string // where it was
	Now   string // where it is, as far as this process can see; "": it was removed, or its place is unknown
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

// Unwrap returns ErrOtherLog or ErrGone.
func (e *GoneError) Unwrap() error {
	if e.Other {
		return ErrOtherLog
	}
	return ErrGone
}
