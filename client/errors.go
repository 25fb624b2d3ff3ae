package client

import "durablestream/event"

// Reasons why an append, a read or a connection failed; package event documents each.
var (
	ErrUnknownOutcome = event.ErrUnknownOutcome
	ErrDiskFull       = event.ErrDiskFull
	ErrDiskReadOnly   = event.ErrDiskReadOnly
	ErrTornBatch      = event.ErrTornBatch
	ErrDuplicateID    = event.ErrDuplicateID
	ErrClosed         = event.ErrClosed
	ErrOtherLog       = event.ErrOtherLog
	ErrTooManyReaders = event.ErrTooManyReaders
	ErrGone           = event.ErrGone
	ErrNoLog          = event.ErrNoLog
	ErrKeyUnknown     = event.ErrKeyUnknown
	ErrKeyNeeded      = event.ErrKeyNeeded
)

// TooLargeError is an event that is larger than the server accepts.
type TooLargeError = event.TooLargeError

// RefusedError is a server's refusal that a retry would not change.
type RefusedError = event.RefusedError

// ConflictError is a guarded append that lost.
type ConflictError = event.ConflictError

// DamageError is a Log that has lost an acknowledged message.
type DamageError = event.DamageError

// WeakLogError is a Log whose configuration promises less than a Log must.
type WeakLogError = event.WeakLogError

// NewerFormatError is a Log in the format of a later version.
type NewerFormatError = event.NewerFormatError
