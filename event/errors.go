package event

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknownOutcome means that the context ended, or the owner of the connection
	// closed it, while an append was in progress. The event may be stored or not, now or
	// a moment later. Append the same event with the same ID again to find out: the Log
	// stores it once.
	ErrUnknownOutcome = errors.New("the outcome of the append is unknown: append the same event with the same id again to find out")

	// ErrDiskFull means that the host refuses appends because its disk is nearly full.
	// Nothing was stored. Reads continue, and the host accepts appends again as soon as
	// there is space.
	ErrDiskFull = errors.New("the host's disk is full: appends are refused until there is space")

	// ErrDiskReadOnly means that the host refuses appends because its disk, or the
	// directory of its log, cannot be written at all. Nothing was stored. Reads continue,
	// and the host accepts appends again as soon as the disk is writable.
	ErrDiskReadOnly = errors.New("the host's disk is read-only: appends are refused, and reads go on, until it can be written again")

	// ErrTornBatch means that the host refuses appends because the log ends with a part
	// of a batch, and the host does not have the rest of the batch, or cannot store it.
	// Nothing was stored, and reads continue without that part.
	ErrTornBatch = errors.New("the log ends with a part of a batch, and appends are refused")

	// ErrDuplicateID means that the event's ID was used before, for an event with
	// another type, stream or payload. Nothing was stored.
	ErrDuplicateID = errors.New("the id belongs to another event already")

	// ErrClosed means that the owner of the connection closed it.
	ErrClosed = errors.New("the connection is closed")

	// ErrOtherLog means that the Log is not the one that was opened: the Log was lost and
	// created again, or restored. Open it again.
	ErrOtherLog = errors.New("the log was made anew since it was opened: open it again")

	// ErrTooManyReaders means that the server admits no more readers of the Log. A reader
	// waits until another reader ends; if its context ends first, it returns an error
	// that wraps this one. Hosts of ours have no such limit.
	ErrTooManyReaders = errors.New("the server admits no more readers (consumers) of the log: raise max_consumers of the stream or the account, or default_max_consumers of the server")

	// ErrGone means that the directory of the Log is not where it was opened: it was
	// moved or removed. If it comes back, so does the Log.
	ErrGone = errors.New("the log is no longer where it was opened")

	// ErrNoLog means that the server has no Log.
	ErrNoLog = errors.New("the server has no stream EVENTS")

	// ErrKeyUnknown means that the server does not know the key of the connection.
	ErrKeyUnknown = errors.New("the server does not know this key")
	// ErrKeyNeeded means that the server accepts only connections with a key.
	ErrKeyNeeded = errors.New("the server wants a key")
)

// TooLargeError reports an event that is larger than the server accepts. Nothing was
// stored.
type TooLargeError struct {
	Size, Limit int // bytes, headers included
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the payload is too large: the event has %d bytes with its headers, and the server takes %d", e.Size, e.Limit)
}

// RefusedError is a refusal by the server that a retry would not change. Nothing was
// stored.
type RefusedError struct {
	Code   int    // JetStream's error code
	Reason string // the server's words
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server refused the append: %s (error %d)", e.Reason, e.Code)
}

// ConflictError reports a guarded append that lost: the guard's last Sequence is not the
// expected one. Nothing was stored.
type ConflictError struct {
	Guard    string    // the guard's subject
	Expected Sequence  // what the append expected
	Seq      Sequence  // the guard's last Sequence now; 0 if it was never written
	Body     []byte    // the guard's last message, if it was ever written
	Winner   *Recorded // the event that was written behind it, where there is one
}

func (e *ConflictError) Error() string {
	s := fmt.Sprintf("conflict on %s: expected its last sequence to be %d, it is %d", e.Guard, e.Expected, e.Seq)
	if e.Winner != nil {
		s += fmt.Sprintf(", written by %s with %s (seq %d)", e.Winner.Actor, e.Winner.Type, e.Winner.Seq)
	}
	return s
}

// DamageError reports a Log that has lost acknowledged events. A reader that returns it
// has delivered all events before the damage, and none after it.
type DamageError struct {
	From, To Sequence // To 0: nobody knows
	Node     string   // whose copy of the Log was read; "" for that of a lone host
}

func (e *DamageError) Error() string {
	whose := "the log is damaged"
	if e.Node != "" {
		whose = "the copy of the log on the node " + e.Node + " is damaged"
	}
	return fmt.Sprintf("%s: position %s cannot be read", whose, Range{From: e.From, To: e.To}) + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *DamageError) Advice() string {
	return "; 'dstream doctor' says what is wrong and repairs it"
}

// WeakLogError reports a Log whose configuration promises less than a Log must. Nothing
// was changed.
type WeakLogError struct {
	Setting, Have, Want string // of the stream EVENTS
}

func (e *WeakLogError) Error() string {
	return fmt.Sprintf("the Log EVENTS has %s %s, and needs %s; change that setting of the stream, or move the store away and restore the log from its mirror",
		e.Setting, e.Have, e.Want)
}

// NewerFormatError reports a Log in the format of a later version. Nothing was changed.
type NewerFormatError struct {
	Have  string // the format of the Log
	Known int    // the last format that this program knows
}

func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("the Log EVENTS has format %s, and this program knows formats up to %d; use a newer dstream", e.Have, e.Known)
}
