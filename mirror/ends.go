package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"durablestream/event"
)

// ends is the part of the files that resume checks: the first line of the oldest file and
// the last whole line of the newest file. Verify checks the lines between.
type ends struct {
	dir            string
	oldest, newest *Line // nil where there are no lines

	active bool           // the active file is there,
	size   int64          // this long,
	keep   int64          // whole up to here,
	first  event.Sequence // its first line's seq (0: it keeps no line),
	mod    time.Time      // and last written then
}

// findEnds reads the ends of the files in dir and changes nothing. In the active file it
// ignores the bytes that a crash can have left after the last whole line.
func findEnds(dir string) (ends, error) {
	e := ends{dir: dir}
	files, err := list(dir)
	if err != nil {
		return e, err
	}
	if n := len(files); n > 0 && files[n-1].active() {
		if err := e.readActive(files[n-1].path); err != nil {
			return e, err
		}
		files = files[:n-1]
	}
	if len(files) == 0 {
		return e, nil
	}
	newest, oldest := files[len(files)-1], files[0]
	if e.newest == nil {
		if e.newest, err = readRotatedEnd(newest.path); err != nil {
			return e, err
		}
		if e.newest.Recorded.Seq == newest.first {
			e.newest.Number = 1
		}
	}
	if newest.first > e.newest.Recorded.Seq || e.first != 0 && newest.first >= e.first {
		return e, &DamageError{File: newest.path, Line: 1, Seq: newest.first,
			Why: "by its name it begins after the end of the newest file: it is no older part of this mirror"}
	}
	e.oldest, err = readFirst(oldest)
	return e, err
}

// readActive takes in the active file.
func (e *ends) readActive(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the mirror: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the mirror: %w", err)
	}
	e.active, e.size, e.mod = true, info.Size(), info.ModTime()
	if e.size == 0 {
		return nil
	}
	first, whole, err := firstLine(f)
	if err != nil {
		return fmt.Errorf("cannot read the mirror: %s: %w", path, err)
	}
	if !whole && isTornHead(first) {
		return nil // one line, torn: all of it is cut
	}
	p, bad := split(first)
	if bad != nil && isOriginal(first) {
		return &OriginalError{path}
	}
	if bad != nil && !isTornHead(first) {
		return &DamageError{File: path, Line: 1, Why: bad.Error()}
	}
	last, keep, err := readTail(f, path, e.size)
	if err != nil {
		return err
	}
	if keep == 0 {
		return nil
	}
	if bad != nil {
		return &DamageError{File: path, Line: 1, Why: bad.Error()}
	}
	e.keep, e.first, e.newest = keep, p.seq, last
	if last.Recorded.Seq == p.seq {
		last.Number = 1
	}
	e.oldest, err = decodeLine(first, path, 1)
	return err
}

// readRotatedEnd returns the last line of an older file. The writer synced the file
// before it renamed it, so no crash leaves it torn or empty.
func readRotatedEnd(path string) (*Line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mirror: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the mirror: %w", err)
	}
	last, keep, err := readTail(f, path, info.Size())
	if err != nil {
		return nil, err
	}
	if keep != info.Size() || last == nil {
		n, err := countLines(f, keep)
		if err != nil {
			return nil, fmt.Errorf("cannot read the mirror: %w", err)
		}
		return nil, &DamageError{File: path, Line: n + 1, Why: "it is empty or cut off, which no crash does to an older file"}
	}
	return last, nil
}

// readFirst gives the first line of an older file.
func readFirst(f file) (*Line, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mirror: %w", err)
	}
	defer r.Close()
	first, _, err := firstLine(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mirror: %s: %w", f.path, err)
	}
	l, err := decodeLine(first, f.path, 1)
	if err == nil && l.Recorded.Seq != f.first {
		err = &DamageError{File: f.path, Line: 1, Seq: l.Recorded.Seq, Expected: f.first, Why: "the file's name says that it begins with another line"}
	}
	return l, err
}

// firstLine reads up to the first line end, or all where there is none.
func firstLine(r io.Reader) (line []byte, whole bool, err error) {
	b := bufio.NewReader(io.LimitReader(r, maxLine))
	line, err = b.ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return line, false, nil
	}
	return bytes.TrimSuffix(line, []byte("\n")), err == nil, err
}

// secondLine gives the second line of a file; nil if it has none that is whole.
func secondLine(path string) (*Line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bufio.NewReader(f)
	for more := bufio.ErrBufferFull; errors.Is(more, bufio.ErrBufferFull); {
		_, more = b.ReadSlice('\n')
	}
	line, whole, err := firstLine(b)
	if err != nil || !whole {
		return nil, err
	}
	l, err := decodeLine(line, path, 2)
	if err != nil {
		return nil, nil // it tells nothing then
	}
	return l, nil
}

// decodeLine makes a Line of a line's bytes, which it keeps and changes. It does
// not check the chain's value.
func decodeLine(line []byte, path string, number int) (*Line, error) {
	p, err := split(line)
	if err != nil {
		return nil, &DamageError{File: path, Line: number, Why: err.Error()}
	}
	return p.decode(line, path, number)
}

func (p parts) decode(line []byte, path string, number int) (_ *Line, err error) {
	l := &Line{File: path, Number: number, Chain: string(p.chain[:]), Body: p.body(line)}
	if l.Recorded, err = event.DecodeBody(l.Body); err != nil {
		return nil, &DamageError{File: path, Line: number, Seq: p.seq, Why: err.Error()}
	}
	l.Recorded.Seq = p.seq
	return l, nil
}

// readTail gives the last whole line of a file of the given size, and the length
// up to its end. Its Number is not set, unless findEnds sees that it is the first.
//
// What follows keep was torn by a crash: bytes without a line end, and a line with
// a zero byte together with all that follows it. Only the last batch can have been
// unsynced, which begins less than batchBytes before the last line; as far back as
// that, the chain is checked too.
func readTail(f io.ReaderAt, path string, size int64) (last *Line, keep int64, err error) {
	for end := size; end > 0; {
		buf, at, err := window(f, end)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read the mirror: %s: %w", path, err)
		}
		stop := bytes.LastIndexByte(buf, '\n') + 1
		if zero := bytes.IndexByte(buf[:stop], 0); zero >= 0 {
			stop = bytes.LastIndexByte(buf[:zero], '\n') + 1
		}
		if stop == 0 { // nothing of this window counts
			end = at
			continue
		}
		begin := 0
		if at > 0 {
			begin = bytes.IndexByte(buf, '\n') + 1
		}
		if begin == stop { // of the last line only the end is here
			end = at + int64(stop)
			continue
		}
		last, err = checkLines(f, path, at+int64(begin), buf[begin:stop])
		return last, at + int64(stop), err
	}
	return nil, 0, nil
}

// window reads the bytes before end: the last line that has an end, and at least
// batchBytes before that line.
func window(r io.ReaderAt, end int64) (buf []byte, at int64, err error) {
	for n := int64(batchBytes + 256<<10); ; n *= 2 {
		at = max(0, end-n)
		buf = make([]byte, end-at)
		if _, err := r.ReadAt(buf, at); err != nil {
			return nil, 0, err
		}
		stop := max(0, bytes.LastIndexByte(buf, '\n'))
		if at == 0 || bytes.LastIndexByte(buf[:stop], '\n') >= batchBytes {
			return buf, at, nil
		}
		if n > 4*maxLine {
			return nil, 0, fmt.Errorf("it has no line end in %d bytes before byte %d: it is damaged, or no file of the mirror", n, end)
		}
	}
}

// checkLines checks whole lines that stand at offset at, and decodes the last.
func checkLines(f io.ReaderAt, path string, at int64, lines []byte) (last *Line, err error) {
	var line []byte
	var prev parts
	number := 0
	sum := newChainer()
	for rest := lines; len(rest) > 0 && err == nil; number++ {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		var p parts
		p, err = split(line)
		switch {
		case err != nil:
		case number == 0:
			if at == 0 && p.seq == 1 && sum.next(origin, p.core(line)) != p.chain {
				err = errors.New(whyChain)
			}
		case p.seq <= prev.seq:
			err = fmt.Errorf("its seq %d does not follow %d", p.seq, prev.seq)
		case sum.next(prev.chain, p.core(line)) != p.chain:
			err = errors.New(whyChain)
		}
		prev = p
	}
	if err == nil {
		last, err = decodeLine(line, path, 0)
	}
	if err == nil {
		return last, nil
	}
	before, countErr := countLines(f, at)
	if countErr != nil {
		return nil, fmt.Errorf("cannot read the mirror: %s: %w", path, countErr)
	}
	var d *DamageError
	if errors.As(err, &d) {
		d.Line = before + number
		return nil, d
	}
	return nil, &DamageError{File: path, Line: before + number, Seq: prev.seq, Why: err.Error()}
}

// whyChain is the reason for a changed, removed or exchanged line.
const whyChain = "its chain does not follow from the line before and its own bytes"

// countLines counts the line ends before an offset.
func countLines(r io.ReaderAt, before int64) (int, error) {
	n := 0
	buf := make([]byte, 256<<10)
	for at := int64(0); at < before; {
		want := min(int64(len(buf)), before-at)
		got, err := r.ReadAt(buf[:want], at)
		if err != nil && !errors.Is(err, io.EOF) || got == 0 {
			return n, err
		}
		n += bytes.Count(buf[:got], []byte("\n"))
		at += int64(got)
	}
	return n, nil
}
