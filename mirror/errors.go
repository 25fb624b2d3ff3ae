package mirror

import (
	"errors"
	"fmt"

	"durablestream/client"
	"durablestream/event"
)

// DamageError reports a line that was changed after it was written, in a place that no
// crash can have damaged. The call changed nothing.
type DamageError struct {
	File     string
	Line     int            // in its file, from 1
	Seq      event.Sequence // what the line says; 0 if it cannot be told
	Expected event.Sequence // what the Log has there; 0 if it was not asked
	Why      string
}

func (e *DamageError) Error() string {
	s := fmt.Sprintf("%s, line %d", e.File, e.Line)
	switch {
	case e.Expected != 0 && e.Seq != 0 && e.Seq != e.Expected:
		s += fmt.Sprintf(" (seq %d where seq %d was due)", e.Seq, e.Expected)
	case e.Expected != 0:
		s += fmt.Sprintf(" (seq %d)", e.Expected)
	case e.Seq != 0:
		s += fmt.Sprintf(" (seq %d)", e.Seq)
	}
	return s + " is damaged: " + e.Why + "; put back an undamaged copy, or, while the Log is whole, move the mirror's files away to have them written anew"
}

// TornError reports a last line without its end: its writer stopped inside it, or is
// about to finish it.
type TornError struct {
	File string
	Line int
}

func (e *TornError) Error() string {
	return fmt.Sprintf("%s, line %d is cut off: a crash stopped its writer; the next run of the mirror cuts it and writes it again from the Log", e.File, e.Line)
}

// AheadError reports a mirror with more events than its Log: the Log's store was lost or
// set back to an earlier state. The call changed nothing.
type AheadError struct {
	File            string
	FileSeq, LogSeq event.Sequence
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("the mirror is ahead of the Log: %s ends at seq %d, the Log at %d, so the Log's store was lost or rolled back", e.File, e.FileSeq, e.LogSeq) + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *AheadError) Advice() string {
	return "; 'dstream doctor' says what is left; where that is nothing, dstream restore makes the log again from the mirror"
}

// BehindError reports a mirror that ends before its Log.
type BehindError struct {
	File          string
	After, LogSeq event.Sequence
	Events        uint64 // that have no line
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("%s ends at seq %d and lacks the %d events that follow in the Log up to %d: lines were removed from its end, or no host runs; "+
		"the next host ('dstream serve') writes the missing lines when they are only at the end", e.File, e.After, e.Events, e.LogSeq)
}

// ForeignError reports a mirror of another Log. The call changed nothing.
type ForeignError struct {
	File string
	Seq  event.Sequence // where they differ
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not the mirror of this Log: they hold different things at seq %d; "+
		"connect to the Log that the file belongs to, or move the mirror's files away to begin a new one", e.File, e.Seq)
}

// OriginalError reports a file of the original TypeScript module in the place of the
// mirror. The call did not change it.
type OriginalError struct{ File string }

func (e *OriginalError) Error() string {
	return fmt.Sprintf("%s was written by the original module (its first line has no chain) and was left as it is; "+
		"run dstream import --adopt %s to bring its events into the Log and keep the file under another name", e.File, e.File)
}

// BusyError means that another process writes this mirror.
type BusyError struct{ Path string } // of the lock

func (e *BusyError) Error() string {
	return "another process writes this mirror (it holds " + e.Path + "); stop it first, or wait until it ends"
}

// GapError reports a Log that has lost messages: a Log never deletes messages, so each
// Sequence must follow the one before.
type GapError struct {
	After event.Sequence // the last position that was there
	Next  event.Sequence // the next position that is there; 0: none
}

func (e *GapError) Error() string {
	s := fmt.Sprintf("the Log is damaged: it holds nothing between seq %d and %d", e.After, e.Next)
	if e.Next == 0 {
		s = fmt.Sprintf("the Log is damaged: it holds nothing after seq %d, and says that it does", e.After)
	}
	return s + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *GapError) Advice() string {
	return "; 'dstream doctor' says what is wrong with the store, and repairs it from this mirror"
}

// gapOf turns a reader's DamageError into a GapError, and returns other errors unchanged.
func gapOf(err error) error {
	var d *client.DamageError
	switch {
	case !errors.As(err, &d):
		return err
	case d.To == 0:
		return &GapError{After: d.From - 1}
	}
	return &GapError{After: d.From - 1, Next: d.To + 1}
}

// The refusals of Restore. Nothing was changed.
var (
	// ErrNotEmpty means that the Log already holds messages.
	ErrNotEmpty = errors.New("the Log is not empty, and only an empty one is restored")
	// ErrNoLines means that there is nothing to restore from.
	ErrNoLines = errors.New("there are no lines to restore from")
	// ErrIncomplete means that the oldest file does not begin where a Log begins:
	// older files are missing, or its first line was changed.
	ErrIncomplete = errors.New("the first line's chain does not begin a Log: older files are missing, or the line was changed; " +
		"put them back (a Go program can restore what is left with RestoreConfig.Partial)")
	// ErrInterfered means that another client wrote to the Log during a restore.
	ErrInterfered = errors.New("somebody else writes to the Log that is being restored")
)

// permanent marks an error of the file system that a retry does not cure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// hopeless reports an error that stops the mirror; Run retries after all others.
func hopeless(err error) bool {
	var p permanent
	var d *DamageError
	return errors.As(err, &p) || errors.As(err, &d)
}
