package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"durablestream/event"
)

// Remain is a line of a mirror whose other lines may be damaged.
type Remain struct {
	Line
	// First marks the first line of all files.
	First bool
	// Proven: its chain follows from the line before it, so the line is unchanged.
	Proven bool
	// Broken: the line before it is damaged, so the events at the Sequences between this
	// line and the previous Remain are unknown.
	Broken bool
}

// Remains yields the lines of a mirror as Lines does, and continues after a damaged line.
// It yields a *DamageError, *TornError or *OriginalError for the line at that place. Any
// other error ends it.
//
// Each line contains its chain, which is computed from the chain of the line before. So a
// line is unchanged in two cases: its chain follows from the chain that the line before
// contains, even if that line is damaged otherwise; or its chain follows from the chain
// that the content of the line before gives, and then that line is proven, too.
func Remains(dir string) iter.Seq2[Remain, error] {
	return func(yield func(Remain, error) bool) {
		in := openDir(dir)
		defer in.close()
		r := remains{yield: yield, sum: newChainer(), whole: true, before: []link{{chain: origin}}}
		for {
			l, err := in.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				if yield(Remain{}, err) && readable(err) {
					r.behind(dir)
				}
				return
			}
			r.file, r.offset, r.number, r.last = in.at.path, in.offset, in.number, l.Recorded.Seq
			r.brought = chain([]byte(l.Chain))
			r.before = []link{{chain: r.brought}}
			trusted := l.first && in.anchored // older files are missing, or it was changed
			if trusted {
				_, c := r.sum.appendLine(nil, l.Recorded.Seq, l.Body, origin)
				r.before = append(r.before, link{chain: c})
			}
			if !yield(Remain{Line: l, First: l.first, Proven: !trusted}, nil) {
				return
			}
		}
	}
}

// readable reports an error behind which there may be lines.
func readable(err error) bool {
	var damage *DamageError
	var torn *TornError
	return errors.As(err, &damage) || errors.As(err, &torn)
}

// remains reads the lines after the first damage.
type remains struct {
	yield func(Remain, error) bool
	sum   *chainer

	file    string // up to where all is whole
	offset  int64
	number  int
	last    event.Sequence // of the last line that was brought behind it,
	whole   bool           // between which and here nothing is damaged,
	brought chain          // and its chain

	before []link // what the chain of the line before may be
	held   *held  // a line that the next one may prove
	over   bool   // the caller wants no more
}

// held is a line that is not proven yet.
type held struct {
	Remain
	changed bool // should it not be proven
}

// link is a chain that the next line may follow from.
type link struct {
	chain chain
	// proves: it was computed from the content of the line before.
	proves bool
}

const mostLinks = 8

func (r *remains) behind(dir string) {
	files, err := list(dir)
	if err != nil {
		r.yield(Remain{}, err)
		return
	}
	begun := r.file == ""
	for _, f := range files {
		begun = begun || f.path == r.file
		if !begun {
			continue
		}
		if err := r.read(f.path); err != nil {
			r.yield(Remain{}, fmt.Errorf("cannot read the mirror: %w", err))
			return
		}
		if r.over {
			return
		}
		r.offset, r.number = 0, 0
	}
	r.release()
}

func (r *remains) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, 256<<10)
	var line []byte
	for !r.over {
		piece, err := in.ReadSlice('\n')
		if len(line) <= maxLine { // what is longer is no line
			line = append(line, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil // what has no end is no line
		case err != nil:
			return err
		}
		r.number++
		r.line(path, bytes.TrimSuffix(line, []byte("\n")))
		line = nil
	}
	return nil
}

// line takes in one line, which it keeps.
func (r *remains) line(path string, raw []byte) {
	written, isWritten := writtenChain(raw)
	if !isWritten && len(raw) > tailLen { // so that the rest of it can be read
		copy(raw[len(raw)-tailLen:], chainKey+string(origin[:])+lineEnd)
	}
	p, bad := split(raw)
	p.end = len(raw) - tailLen
	proven := false
	var next []link
	if p.end > 0 {
		for _, b := range r.before {
			computed := r.sum.next(b.chain, p.core(raw))
			if isWritten && computed == written {
				proven = true
				if b.proves && r.held != nil {
					r.held.Proven = true
				}
				break
			}
			next = append(next, link{computed, true})
		}
	}
	if proven {
		next = nil
	}
	if isWritten {
		next = append([]link{{chain: written}}, next...)
	}
	known := len(r.before) > 0
	r.before = next[:min(len(next), mostLinks)]
	r.release()
	if r.brought != (chain{}) { // of what stands between, nothing may belong there
		r.before = append(r.before, link{chain: r.brought})
	}
	var l *Line
	if bad == nil {
		l, bad = p.decode(slices.Clone(raw), path, r.number)
	}
	if bad != nil || p.seq <= r.last {
		r.whole = false
		return
	}
	m := Remain{Line: *l, First: r.last == 0, Proven: proven, Broken: !proven || !r.whole}
	if proven {
		r.bring(m)
		return
	}
	// Where no line is missing before it, it was changed itself.
	r.held = &held{Remain: m, changed: !isWritten || known && p.seq == r.last+1}
}

// release yields the held line, or drops it.
func (r *remains) release() {
	h := r.held
	r.held = nil
	if h == nil {
		return
	}
	if !h.changed || h.Proven {
		r.bring(h.Remain)
	}
	r.whole = h.Proven
}

func (r *remains) bring(m Remain) {
	r.last, r.whole, r.brought = m.Recorded.Seq, true, chain([]byte(m.Chain))
	r.over = r.over || !r.yield(m, nil)
}

// writtenChain is what a line that may be damaged says that its chain is.
func writtenChain(raw []byte) (c chain, ok bool) {
	at := len(raw) - tailLen
	if at < 0 || string(raw[at:at+len(chainKey)]) != chainKey || !bytes.HasSuffix(raw, []byte(lineEnd)) {
		return c, false
	}
	copy(c[:], raw[at+len(chainKey):])
	return c, !slices.ContainsFunc(c[:], func(b byte) bool { return (b < '0' || b > '9') && (b < 'a' || b > 'f') })
}
