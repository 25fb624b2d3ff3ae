package client

import "durablestream/event"

// Why an append, a read or a connection failed; package event says what each means.
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

// TooLargeError is an event that is larger than the server takes.
type TooLargeError = event.TooLargeError

// RefusedError is a server's refusal that trying again would not change.
type RefusedError = event.RefusedError

// ConflictError is a guarded append that lost.
type ConflictError = event.ConflictError

// DamageError is a Log that has lost something that it had acknowledged.
type DamageError = event.DamageError
