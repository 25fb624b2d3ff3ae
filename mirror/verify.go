package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// Report is the result of Verify.
type Report struct {
	Files   int            `json:"files"`
	Lines   uint64         `json:"lines"` // that were compared and are right
	First   event.Sequence `json:"first"` // of those lines
	Last    event.Sequence `json:"last"`
	LogLast event.Sequence `json:"log_last"` // the Log's last position when Verify began
	// Anchored: the oldest files are gone, so Verify trusted the chain of the first line
	// and the name of its file; Before counts the Log's events before that line.
	Anchored bool   `json:"anchored"`
	Before   uint64 `json:"before"`
	// Behind counts the events up to LogLast that the files lack at their end.
	Behind   uint64 `json:"behind"`
	SetAside uint64 `json:"set_aside"` // messages on the events' subjects that are no events
	// Problem is the first problem: *DamageError, *TornError, *BehindError, *AheadError,
	// *GapError or *OriginalError. Nil: the files are equal to the Log.
	Problem error `json:"-"`
}

// verifyPoll is the interval at which Verify checks a file that lacks a line.
const verifyPoll = 5 * time.Millisecond

// Verify compares the Log, in its state when Verify begins, with the files and their
// chain, line by line. The report holds its findings; its error means that it could not
// continue. It holds one line at a time, takes no lock, and may run beside the mirror's
// writer: it waits for lines that are not written yet.
//
// If any byte of a file was changed, a line removed or two lines exchanged, Problem names
// the first wrong line. If the oldest files were archived, the name of the oldest
// remaining file (durable_stream.seq-<first>.jsonl) vouches for its first line; the
// active file's name does not, so keep at least one older file beside it.
func Verify(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	st, err := cfg.Client.Admin().State(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("mirror: verify: %w", err)
	}
	end, err := cfg.Client.Position(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("mirror: verify: %w", err)
	}
	st.Last = min(st.Last, end) // before a batch that is not committed
	v := &verifier{cfg: cfg, in: openDir(cfg.Dir), st: st}
	defer v.in.close()
	v.report.LogLast = st.Last
	err = v.run(ctx)
	v.report.Files = v.in.files
	var stop *found
	if errors.As(err, &stop) {
		v.report.Problem, err = stop.problem, nil
	}
	if err != nil {
		return v.report, fmt.Errorf("mirror: verify: %w", err)
	}
	return v.report, nil
}

// found ends a verification with a problem.
type found struct{ problem error }

func (f *found) Error() string { return f.problem.Error() }

type verifier struct {
	cfg    Config
	in     *reader
	st     client.State
	report Report

	line *Line // the next line, once it was read
	grew time.Time
}

func (v *verifier) run(ctx context.Context) error {
	v.grew = time.Now()
	if v.st.Messages > 0 {
		if err := v.walk(ctx); err != nil {
			return err
		}
	}
	return v.rest(ctx)
}

// walk reads the Log and compares a line with each event.
func (v *verifier) walk(ctx context.Context) error {
	at := begin(v.st) - 1
	for m, err := range v.cfg.Client.Feed(ctx, client.FeedConfig{After: at, Until: v.st.Last, NoHeaders: true}) {
		var gap *GapError
		if errors.As(gapOf(err), &gap) {
			return &found{gap}
		}
		if err != nil {
			return err
		}
		if m.Seq != at+1 {
			return &found{&GapError{After: at, Next: m.Seq}}
		}
		at = m.Seq
		if wire.IsGuard(m.Subject) {
			continue
		}
		if err := v.message(ctx, m); err != nil {
			return err
		}
	}
	if at < v.st.Last {
		return &found{&GapError{After: at}}
	}
	if v.report.Behind > 0 {
		return &found{&BehindError{File: cmp.Or(v.in.at.path, v.active()), After: v.report.Last, LogSeq: v.st.Last, Events: v.report.Behind}}
	}
	return nil
}

// message compares one message that is no guard with the next line.
func (v *verifier) message(ctx context.Context, m client.Message) error {
	l, err := v.line, error(nil)
	if l == nil && v.report.Behind == 0 {
		l, err = v.next()
	}
	// Most lines are equal, and then the message needs no checks of its own.
	if l != nil && l.Recorded.Seq == m.Seq && bytes.Equal(l.Body, m.Data) &&
		wire.EventSubject(l.Recorded.Type, l.Recorded.StreamID) == m.Subject {
		return v.equal(*l)
	}
	if wire.Check(m.Subject, m.Data, m.Seq) != nil {
		v.report.SetAside++
		return nil //nolint:nilerr // no line is due; should there be an error, it comes again
	}
	for l == nil && v.report.Behind == 0 {
		if !waitable(err) {
			return problem(err, m.Seq)
		}
		if time.Since(v.grew) > v.cfg.VerifyWait {
			if !errors.Is(err, io.EOF) {
				return &found{err}
			}
			break
		}
		if err := wait.For(ctx, verifyPoll); err != nil {
			return err
		}
		l, err = v.next()
		if l != nil {
			return v.message(ctx, m)
		}
	}
	if l == nil {
		v.report.Behind++
		return nil
	}
	return v.differ(*l, m)
}

// next reads the next line ahead.
func (v *verifier) next() (*Line, error) {
	l, err := v.in.next()
	if err != nil {
		return nil, err
	}
	v.line, v.grew = &l, time.Now()
	return v.line, nil
}

// waitable reports an end that a live writer may move.
func waitable(err error) bool {
	var torn *TornError
	return errors.Is(err, io.EOF) || errors.As(err, &torn)
}

// equal accepts a line that equals the Log's event.
func (v *verifier) equal(l Line) error {
	if l.first && v.in.anchored {
		if v.report.Before == 0 {
			return v.damage(l, l.Recorded.Seq, "its chain does not begin at 64 zeros, and no event is before it")
		}
		v.report.Anchored = true
	}
	if l.first {
		v.report.First = l.Recorded.Seq
	}
	v.report.Last = l.Recorded.Seq
	v.report.Lines++
	v.line = nil
	return nil
}

// differ names the difference between line l and the event in m, which was due there.
func (v *verifier) differ(l Line, m client.Message) error {
	switch {
	case l.Recorded.Seq > m.Seq && l.first && v.in.anchored && l.File != v.active():
		v.report.Before++
		return nil
	case l.Recorded.Seq > m.Seq && !json.Valid(m.Data):
		// The event is nested deeper than earlier versions could read: their mirror set it
		// aside. A line that was removed later would break the chain.
		v.report.SetAside++
		return nil
	case l.Recorded.Seq > m.Seq:
		return v.damage(l, m.Seq, "a line is missing before it")
	case l.Recorded.Seq < m.Seq:
		return v.damage(l, m.Seq, "the Log holds no event at its seq")
	}
	return v.damage(l, m.Seq, "it differs from the event in the Log")
}

func (v *verifier) active() string { return filepath.Join(v.cfg.Dir, ActiveName) }

func (v *verifier) damage(l Line, due event.Sequence, why string) error {
	return &found{&DamageError{File: l.File, Line: l.Number, Seq: l.Recorded.Seq, Expected: due, Why: why}}
}

// rest looks at what follows the last line that was due: nothing, or lines for
// events that were appended since Verify began.
func (v *verifier) rest(ctx context.Context) error {
	for v.line == nil {
		_, err := v.next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case !waitable(err):
			return problem(err, 0)
		case time.Since(v.grew) > v.cfg.VerifyWait:
			return &found{err}
		default:
			if err := wait.For(ctx, verifyPoll); err != nil {
				return err
			}
		}
	}
	seq := v.line.Recorded.Seq
	if v.st.Messages > 0 && seq <= v.st.Last {
		return v.damage(*v.line, 0, "the Log holds no event at its seq")
	}
	now, err := v.cfg.Client.Position(ctx)
	if err != nil || seq <= now {
		return err
	}
	last := &AheadError{v.line.File, seq, now}
	for ctx.Err() == nil {
		l, err := v.in.next()
		if err != nil {
			return &found{last} // this comes first, before any later damage
		}
		last.File, last.FileSeq = l.File, l.Recorded.Seq
	}
	return ctx.Err()
}

// problem turns the reader's error into the end of a verification, and adds the Sequence
// that was due. Errors that are not about the files' content stay errors.
func problem(err error, due event.Sequence) error {
	var d *DamageError
	var o *OriginalError
	switch {
	case errors.As(err, &d):
		d.Expected = due
		return &found{d}
	case errors.As(err, &o):
		return &found{o}
	}
	return err
}
