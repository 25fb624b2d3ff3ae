// Package index tells which events of a block of the Log a reader wants, without reading
// the block: by stream, type, actor, correlation and time, and guards by kind and name.
//
// Each block that the engine has filled, and so changes no more, has one file here, named
// after it. It is made from the block, and anybody may remove it: it is made again. It
// names the block as it was (its size, the time of its last change, the Log's creation),
// and counts for that alone. What it gives is where candidates lie; whoever reads these
// checks each record's own checksum, subject and contents, so that an index that names too
// much costs time only. That it names too little is what the checksums of its sections
// are for.
//
// # The file
//
// All numbers are little endian; a sum is a CRC-32C.
//
//	head      magic, its sum, the block, and where the sections are, each with its sum
//	places    4 bytes a record: its offset in the block; records follow each other without gaps
//	          in their Sequences, so that a record's place here is its Sequence less the first
//	times     8 bytes a record: the event's timestamp, in Unix ms; the least there is for what has none
//	kinds     each subject without its last word, its length before it in 2 bytes, and its list
//	terms     16 bytes each, in order: the hash of a term, and its list
//	lists     a sum, and the records that have it: the first's number, then the steps between
package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"durablestream/event"
)

const (
	magic   = "DSINDEX2"
	timeNil = math.MinInt64
)

// Suffix ends the names of index files, which do not change.
const Suffix = ".idx"

// Path is where the index of a block is, in the directory of indexes.
func Path(dir string, block uint32) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(block), 10)+Suffix)
}

// Source is a block as it was indexed.
type Source struct {
	Log  int64 // when the Log was made, Unix ns
	Size int64 // of the block, in bytes
	Mod  int64 // when it was last changed, Unix ns
}

// section is a part of the file.
type section struct {
	Off, Len uint32
	Sum      uint32
}

type head struct {
	Number uint32
	Source
	Begin                       event.Sequence
	Records                     uint32
	MinTime, MaxTime            int64 // of its events; none: Min is the greater one
	Places, Times, Kinds, Terms section
	Lists, Total                uint32 // where the lists begin, and end
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	headSize   = len(magic) + 4 + binary.Size(head{})
)

// Index is the index of one block. It holds no file open.
type Index struct {
	head
	path string
}

// First is the block's first Sequence.
func (h *head) First() event.Sequence { return h.Begin }

// Last is the block's last Sequence; 0 while it has none.
func (h *head) Last() event.Sequence {
	if h.Records == 0 {
		return 0
	}
	return h.Begin + event.Sequence(h.Records) - 1
}

// Block is the block's number.
func (h *head) Block() uint32 { return h.Number }

// Of is the block as it was when the index was made.
func (h *head) Of() Source { return h.Source }

// ErrDamaged is an index of which a part has another checksum than it had.
var ErrDamaged = errors.New("an index is damaged")

// There reports that the index's file is there, as long as it was.
func (x *Index) There() bool {
	info, err := os.Stat(x.path)
	return err == nil && info.Size() == int64(x.Total)
}

// Open reads the head of a block's index. It is an error that it is of another block than
// want, or damaged.
func Open(dir string, block uint32, want Source) (*Index, error) {
	x := &Index{path: Path(dir, block)}
	f, err := os.Open(x.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, headSize)
	if _, err := f.ReadAt(raw, 0); err != nil {
		return nil, err
	}
	rest := raw[len(magic)+4:]
	if string(raw[:len(magic)]) != magic || crc32.Checksum(rest, castagnoli) != binary.LittleEndian.Uint32(raw[len(magic):]) {
		return nil, fmt.Errorf("%s: %w", x.path, ErrDamaged)
	}
	if err := binary.Read(bytes.NewReader(rest), binary.LittleEndian, &x.head); err != nil {
		return nil, err
	}
	if x.Number != block || x.Source != want || x.Records == 0 {
		return nil, fmt.Errorf("%s is of another block", x.path)
	}
	return x, nil
}

// The kinds of terms.
const (
	termStream      = 's'
	termActor       = 'a'
	termCorrelation = 'c'
	termGuard       = 'g'
)

// term is what is kept of a word. Two words may share one: then a reader gets more than it
// wants, and looks.
func term(kind byte, word string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte{kind}) // never fails
	_, _ = h.Write([]byte(word))
	return h.Sum64()
}

// reader reads the parts of one index that a question needs.
type reader struct {
	*Index
	f     *os.File
	terms []byte
	kinds []byte
}

func (r *reader) section(s section) ([]byte, error) {
	b := make([]byte, s.Len)
	if _, err := r.f.ReadAt(b, int64(s.Off)); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != s.Sum {
		return nil, fmt.Errorf("%s: %w", r.path, ErrDamaged)
	}
	return b, nil
}

// list gives the numbers of the records in a list.
func (r *reader) list(off, length uint32) ([]uint32, error) {
	b := make([]byte, length)
	if _, err := r.f.ReadAt(b, int64(r.Lists)+int64(off)); err != nil {
		return nil, err
	}
	if length < 4 || crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) {
		return nil, fmt.Errorf("%s: %w", r.path, ErrDamaged)
	}
	return numbers(b[4:], r.Records)
}

// numbers reads a list.
func numbers(b []byte, records uint32) ([]uint32, error) {
	out := make([]uint32, 0, len(b))
	for at := uint64(0); len(b) > 0; {
		step, n := binary.Uvarint(b)
		if n <= 0 || at+step >= uint64(records) {
			return nil, ErrDamaged
		}
		at += step
		out = append(out, uint32(at))
		b = b[n:]
	}
	return out, nil
}

func (r *reader) places() ([]byte, error) { return r.section(r.Places) }

func (r *reader) times() ([]byte, error) { return r.section(r.Times) }

const termLen = 16

// term gives the records that have a term; none: nil.
func (r *reader) term(hash uint64) (_ []uint32, err error) {
	if r.terms == nil {
		if r.terms, err = r.section(r.Terms); err != nil {
			return nil, err
		}
	}
	lo, hi := 0, len(r.terms)/termLen
	for lo < hi {
		mid := (lo + hi) / 2
		if binary.LittleEndian.Uint64(r.terms[mid*termLen:]) < hash {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	at := lo * termLen
	if at == len(r.terms) || binary.LittleEndian.Uint64(r.terms[at:]) != hash {
		return nil, nil
	}
	return r.list(binary.LittleEndian.Uint32(r.terms[at+8:]), binary.LittleEndian.Uint32(r.terms[at+12:]))
}

func (r *reader) ofKinds(pattern string) (out []uint32, err error) {
	if r.kinds == nil {
		if r.kinds, err = r.section(r.Kinds); err != nil {
			return nil, err
		}
	}
	for b := r.kinds; len(b) > 0; {
		n := int(binary.LittleEndian.Uint16(b))
		kind, rest := string(b[2:2+n]), b[2+n:]
		if event.MatchType(pattern, kind) {
			list, err := r.list(binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:]))
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
		b = rest[8:]
	}
	return out, nil
}

// Place is where a record is in its block: [Off, End).
type Place struct {
	Seq      event.Sequence
	Off, End int64
}

// Find gives the places of the records in (after, until] that may be what q asks for, in
// their order.
func (x *Index) Find(q Query, after, until event.Sequence) ([]Place, error) {
	if !x.reaches(q, after, until) {
		return nil, nil
	}
	f, err := os.Open(x.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return x.find(&reader{Index: x, f: f}, q, after, until)
}

// lists are what an index holds, in its file or in memory.
type lists interface {
	term(hash uint64) ([]uint32, error)       // the records that have it, in order
	ofKinds(pattern string) ([]uint32, error) // those whose kind matches, in no order
	places() ([]byte, error)                  // as the file has them
	times() ([]byte, error)
}

// reaches reports that there can be something for q in the block.
func (h *head) reaches(q Query, after, until event.Sequence) bool {
	if h.Records == 0 || h.Last() <= after || h.First() > until {
		return false
	}
	return !q.timed() || h.MaxTime >= q.Since && (q.Until == 0 || h.MinTime <= q.Until)
}

func (h *head) find(l lists, q Query, after, until event.Sequence) ([]Place, error) {
	found, all, err := q.records(l)
	if err != nil || !all && len(found) == 0 {
		return nil, err
	}
	from, to := uint32(0), h.Records // [from, to) is what is asked for
	if after >= h.First() {
		from = uint32(after - h.First() + 1)
	}
	if until < h.Last() {
		to = uint32(until - h.First() + 1)
	}
	places, err := l.places()
	if err != nil {
		return nil, err
	}
	var times []byte
	if q.timed() {
		if times, err = l.times(); err != nil {
			return nil, err
		}
	}
	var out []Place
	take := func(i uint32) {
		if i < from || i >= to || q.timed() && !q.inTime(int64(binary.LittleEndian.Uint64(times[8*i:]))) {
			return
		}
		p := Place{Seq: h.First() + event.Sequence(i), Off: int64(binary.LittleEndian.Uint32(places[4*i:])), End: h.Size}
		if i+1 < h.Records {
			p.End = int64(binary.LittleEndian.Uint32(places[4*(i+1):]))
		}
		out = append(out, p)
	}
	if all {
		for i := from; i < to; i++ {
			take(i)
		}
	}
	for _, i := range found {
		take(i)
	}
	return out, nil
}
