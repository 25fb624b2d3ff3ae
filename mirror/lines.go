package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"durablestream/event"
)

// Lines yields all lines of all files in dir, oldest first, and checks the form of each,
// its event, its seq and its chain. It ends with a *DamageError at the first bad line,
// with a *TornError at a torn last line, and with an *OriginalError at a file of the
// original module.
//
// If the oldest files are gone, the first line's predecessor is unknown: Lines trusts the
// chain of a first line whose seq is not 1. Verify also compares it with the Log.
func Lines(dir string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := openDir(dir)
		defer r.close()
		for {
			l, err := r.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// reader reads the lines of a mirror, also of one that is being written: at the end of
// the newest file next may be called again.
//
// While the reader is inside the active file, the writer may rename that file. The open
// file stays the same. So the reader first finds out that there is a newer file, then
// reads the rest of its own, and only then opens the newer one.
type reader struct {
	dir   string // read as it grows; or
	queue []file // these files, of which only the last may be torn

	f       *os.File
	in      *bufio.Reader
	at      file            // what f was opened as
	sealed  bool            // f does not grow any more
	number  int             // of the last line of f
	offset  int64           // behind that line
	partial []byte          // a line whose end was not there yet
	seen    map[string]bool // older files that were read or are being read

	sum      *chainer
	seq      event.Sequence // of the last line
	chain    chain
	started  bool
	anchored bool // the first line's chain was taken on trust
	files    int
	bad      error // ends everything

	hook func(where string) // for tests that rotate between two steps; nil otherwise
}

func openDir(dir string) *reader {
	return &reader{dir: dir, seen: map[string]bool{}, sum: newChainer(), chain: origin}
}

func openFiles(files []file) *reader {
	r := openDir("")
	r.queue = files
	return r
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// next gives the next line. io.EOF and *TornError are about the present: after
// them it may be called again. Every other error is the last word.
func (r *reader) next() (Line, error) {
	if r.bad != nil {
		return Line{}, r.bad
	}
	l, err := r.read()
	var torn *TornError
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &torn) {
		r.bad = err
	}
	return l, err
}

func (r *reader) read() (Line, error) {
	for {
		if r.f == nil {
			if err := r.advance(); err != nil {
				return Line{}, err
			}
		}
		switch err := r.readLine(); {
		case err == nil:
			return r.check()
		case !errors.Is(err, io.EOF):
			return Line{}, err
		}
		if !r.sealed {
			r.step("end")
			newer, err := r.newer()
			if err != nil {
				return Line{}, err
			}
			if newer {
				r.sealed = true
				continue
			}
			return Line{}, r.endOfActive()
		}
		if len(r.partial) > 0 {
			return Line{}, r.damage("it has no end, which no crash does to an older file")
		}
		if r.number == 0 {
			r.number = 1
			return Line{}, &DamageError{File: r.at.path, Line: 1, Why: "the file is empty, which no crash does to an older file"}
		}
		if err := r.advance(); err != nil {
			return Line{}, err
		}
	}
}

func (r *reader) step(where string) {
	if r.hook != nil {
		r.hook(where)
	}
}

// endOfActive examines the present end.
func (r *reader) endOfActive() error {
	if len(r.partial) == 0 {
		return io.EOF
	}
	if r.number == 0 && !isTornHead(r.partial) {
		if isOriginal(r.partial) {
			return &OriginalError{r.at.path}
		}
		return r.damage(errNoHead.Error())
	}
	return &TornError{r.at.path, r.number + 1}
}

// readLine reads up to the next line end into partial; io.EOF means that there is
// none yet.
func (r *reader) readLine() error {
	for {
		piece, err := r.in.ReadSlice('\n')
		r.partial = append(r.partial, piece...)
		if len(r.partial) > maxLine {
			return r.damage("it is longer than any line that can be written")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if err != nil && !errors.Is(err, io.EOF) {
				err = fmt.Errorf("cannot read the mirror: %w", err)
			}
			return err
		}
	}
}

// check turns the line in partial into a Line.
func (r *reader) check() (Line, error) {
	raw := r.partial[:len(r.partial)-1]
	r.partial = nil
	r.number++
	if !r.sealed && bytes.IndexByte(raw, 0) >= 0 {
		if err := r.unwritten(); err != nil {
			return Line{}, err
		}
	}
	r.offset += int64(len(raw)) + 1
	p, err := split(raw)
	switch {
	case err != nil && r.number == 1 && r.at.active() && isOriginal(raw):
		return Line{}, &OriginalError{r.at.path}
	case err != nil:
		return Line{}, &DamageError{File: r.at.path, Line: r.number, Why: err.Error()}
	case p.seq <= r.seq:
		return Line{}, r.damaged(p, fmt.Sprintf("its seq does not follow %d, the line before", r.seq))
	case r.number == 1 && !r.at.active() && p.seq != r.at.first:
		return Line{}, r.damaged(p, fmt.Sprintf("by its name the file begins with seq %d", r.at.first))
	}
	if r.sum.next(r.chain, p.core(raw)) != p.chain {
		if r.started || p.seq == 1 {
			return Line{}, r.damaged(p, whyChain)
		}
		r.anchored = true
	}
	l, err := p.decode(raw, r.at.path, r.number)
	if err != nil {
		return Line{}, err
	}
	l.first = !r.started
	r.started, r.seq, r.chain = true, p.seq, p.chain
	return *l, nil
}

// unwritten reports a *TornError if the line that was just read, which holds zero
// bytes, stands where resume takes those for pages of the last batch that never
// reached the disk.
func (r *reader) unwritten() error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the mirror: %w", err)
	}
	if _, keep, err := readTail(r.f, r.at.path, info.Size()); err == nil && keep <= r.offset {
		r.bad = &TornError{r.at.path, r.number}
	}
	return r.bad
}

func (r *reader) damaged(p parts, why string) error {
	return &DamageError{File: r.at.path, Line: r.number, Seq: p.seq, Why: why}
}

// damage is about the line that is being read.
func (r *reader) damage(why string) error {
	return &DamageError{File: r.at.path, Line: r.number + 1, Why: why}
}

// newer reports whether the file that was opened as the active one is no longer
// that.
func (r *reader) newer() (bool, error) {
	if r.dir == "" {
		return false, nil
	}
	now, err := os.Stat(filepath.Join(r.dir, ActiveName))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the mirror: %w", err)
	}
	same, err := r.isOpen(now)
	return !same, err
}

func (r *reader) isOpen(info fs.FileInfo) (bool, error) {
	if r.f == nil {
		return false, nil
	}
	open, err := r.f.Stat()
	if err != nil {
		return false, fmt.Errorf("cannot read the mirror: %w", err)
	}
	return os.SameFile(open, info), nil
}

// advance opens the file after the one that was read to its end; io.EOF if there
// is none at present.
func (r *reader) advance() error {
	for {
		next, err := r.choose()
		if err != nil {
			return err
		}
		r.step("listed")
		f, err := os.Open(next.path)
		if errors.Is(err, fs.ErrNotExist) && next.active() {
			return io.EOF // it has got its older name meanwhile
		}
		if err != nil {
			return fmt.Errorf("cannot read the mirror: %w", err)
		}
		old := r.f
		r.f = f
		if next.active() && r.dir != "" {
			// Between the listing and the opening it may have got its older name,
			// and this be the file after it.
			switch again, err := r.choose(); {
			case err == nil && !again.active():
				delete(r.seen, again.path)
				f.Close()
				r.f = old
				continue
			case err != nil && !errors.Is(err, io.EOF):
				return err
			}
		}
		if old != nil {
			old.Close()
		}
		r.at, r.number, r.offset = next, 0, 0
		r.sealed = !next.active()
		if r.dir == "" {
			r.sealed = len(r.queue) > 0
		}
		r.in = bufio.NewReaderSize(f, 256<<10)
		r.files++
		return nil
	}
}

// choose takes the oldest file that was not read yet and is not open; io.EOF if
// there is none. One that turns out to begin before the last line is no part of
// the mirror: its first line is reported then.
func (r *reader) choose() (file, error) {
	if r.dir == "" {
		if len(r.queue) == 0 {
			return file{}, io.EOF
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		return next, nil
	}
	files, err := list(r.dir)
	if err != nil {
		return file{}, err
	}
	for _, f := range files {
		if r.seen[f.path] {
			continue
		}
		info, err := os.Stat(f.path)
		if errors.Is(err, fs.ErrNotExist) && f.active() {
			continue
		}
		if err != nil {
			return file{}, fmt.Errorf("cannot read the mirror: %w", err)
		}
		same, err := r.isOpen(info)
		if err != nil {
			return file{}, err
		}
		if !f.active() {
			r.seen[f.path] = true
		}
		if !same {
			return f, nil
		}
	}
	return file{}, io.EOF
}
