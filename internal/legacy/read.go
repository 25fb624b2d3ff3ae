// Package legacy reads the files of the original TypeScript module: one event a
// line, as JSON. It gives every event as ours, tells which lines are damaged and
// why, and fills in what the original left out and nothing is lost by.
//
// Nothing here writes. Order is that of the files; the importer keeps it.
package legacy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"durablestream/event"
)

const (
	// maxLine bounds the memory that one line may take. A longer one is damaged.
	maxLine = 64 << 20

	// maxEvent is what the Log takes, 8 MiB, less room for the headers.
	maxEvent = 8<<20 - 8<<10
)

var (
	// ErrTorn is a last line that was not written to its end. The original leaves
	// one behind when it is killed; nothing else is wrong with such a file.
	ErrTorn = errors.New("torn: the last line ends in the middle of an event, which was lost when its writer died")

	// ErrTooLong is a line, or an event, that no Log of ours takes.
	ErrTooLong = errors.New("too long")

	// ErrMirrorLine is a line that our own mirror wrote.
	ErrMirrorLine = errors.New("this is the mirror of a Durable Stream log, not a file of the original module: use dstream restore")
)

// Line is one line of a file that holds an event, or should.
type Line struct {
	// File and Number, from 1, say where the line is.
	File   string
	Number int
	// Event is valid and compact, if Err is nil.
	Event event.Event
	// Err is a *LineError if the line is damaged.
	Err error
	// Fixed names the fields that were filled in because the original left them
	// out or null, in the order of the fields. "metadata": a null was left out.
	Fixed []string
}

// LineError says which line of which file is damaged, and why: ErrTorn,
// ErrTooLong, ErrMirrorLine or an *event.InvalidError.
type LineError struct {
	File string
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s line %d: %v", e.File, e.Line, e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Read gives the lines of a file, name, in order, without the blank ones. A line
// that is damaged has its Err set and never stops the rest. The error beside the
// Line is for reading alone, and the last thing given. r is read once, and not
// closed; memory is bounded whatever is in it.
func Read(r io.Reader, name string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		in := lines{r: bufio.NewReaderSize(r, 64<<10)}
		for {
			raw, err := in.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Line{}, fmt.Errorf("legacy: read %s after line %d: %w", name, in.number-1, err))
				return
			}
			if in.size <= maxLine && len(bytes.TrimSpace(raw)) == 0 {
				continue
			}
			l := Line{File: name, Number: in.number}
			if l.Event, l.Fixed, err = in.event(raw); err != nil {
				l.Event, l.Fixed = event.Event{}, nil
				l.Err = &LineError{name, in.number, err}
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

// lines cuts a file into lines without bufio.Scanner's limit.
type lines struct {
	r      *bufio.Reader
	number int    // of the line that next gave last
	buf    []byte // its bytes, up to maxLine; used again for the next
	size   int64  // how many there were, without the newline
	ended  bool   // whether a newline ended it
}

// next gives the next line without its ending, valid until the call after, and
// io.EOF behind the last one.
func (l *lines) next() ([]byte, error) {
	if cap(l.buf) > 1<<20 {
		l.buf = nil // one giant does not make all others keep its memory
	}
	l.buf, l.size, l.ended = l.buf[:0], 0, false
	l.number++
	for {
		chunk, err := l.r.ReadSlice('\n')
		l.size += int64(len(chunk))
		if room := maxLine - len(l.buf); room > 0 {
			l.buf = append(l.buf, chunk[:min(len(chunk), room)]...)
		}
		switch {
		case err == nil:
			l.ended = true
			l.size--
			return l.trim(), nil
		case errors.Is(err, io.EOF) && l.size > 0:
			return l.trim(), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// trim takes off the line's ending, and the byte order mark that some editors put
// before the first line.
func (l *lines) trim() []byte {
	raw := bytes.TrimSuffix(bytes.TrimSuffix(l.buf, []byte("\n")), []byte("\r"))
	if l.number == 1 {
		raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	}
	return raw
}

// event reads the event of the line that next gave last.
func (l *lines) event(raw []byte) (event.Event, []string, error) {
	if l.size > maxLine {
		return event.Event{}, nil, fmt.Errorf("%w: the line has %d bytes, and at most %d are read", ErrTooLong, l.size, maxLine)
	}
	e, fixed, err := decode(raw)
	if invalid := (*event.InvalidError)(nil); errors.As(err, &invalid) {
		if !l.ended && !json.Valid(raw) { // a part of an object never is
			return e, nil, ErrTorn
		}
		return e, nil, short(invalid)
	}
	if err != nil {
		return e, nil, err
	}
	if len(raw) > maxEvent/2 { // what is filled in is small
		if size := len(e.AppendJSON(nil)); size > maxEvent {
			return e, nil, fmt.Errorf("%w: the event has %d bytes, and the Log takes at most %d; it stays in this file", ErrTooLong, size, maxEvent)
		}
	}
	return e, fixed, nil
}

// short cuts a long value, so that a report of many damaged lines does not hold
// all of them in memory.
func short(e *event.InvalidError) *event.InvalidError {
	const most = 200
	if len(e.Value) <= most {
		return e
	}
	return &event.InvalidError{Field: e.Field, Value: e.Value[:most], Rule: fmt.Sprintf("%s (these are the first of %d bytes)", e.Rule, len(e.Value))}
}
