package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"strings"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// ErrNotWhole is a block that has no index: something in it is damaged or missing.
var ErrNotWhole = errors.New("the block is not whole")

// list is one that grows.
type list struct {
	last  uint32
	bytes []byte
}

func (l *list) add(i uint32) {
	if len(l.bytes) > 0 && i == l.last {
		return
	}
	l.bytes = binary.AppendUvarint(l.bytes, uint64(i-l.last))
	l.last = i
}

// Growing is the index of a block that is being written, in memory.
type Growing struct {
	head
	file   blocks.File
	end    blocks.End
	offs   []byte
	stamps []byte
	kinds  map[string]*list
	terms  map[uint64]*list
}

// Grow begins the index of a block.
func Grow(f blocks.File, log int64) *Growing {
	g := &Growing{file: f, kinds: map[string]*list{}, terms: map[uint64]*list{}}
	g.Number, g.Source.Log = f.Index, log
	g.MinTime, g.MaxTime = math.MaxInt64, math.MinInt64
	return g
}

// Extend takes in what was written to the block since. ErrNotWhole means that what was
// taken in before is there no more, or that something is missing: this index is of no use
// then. A record that is not whole yet is left for later.
func (g *Growing) Extend() error {
	end, err := blocks.WalkOn(g.file, g.end, func(off int64, _ []byte, r blocks.Record) error { return g.add(off, r) })
	if errors.Is(err, blocks.ErrChanged) {
		return fmt.Errorf("%w: %w", ErrNotWhole, err)
	}
	if err == nil {
		g.end, g.Size = end, end.Off
	}
	return err
}

// File is the block.
func (g *Growing) File() blocks.File { return g.file }

// Find is Index.Find.
func (g *Growing) Find(q Query, after, until event.Sequence) ([]Place, error) {
	if !g.reaches(q, after, until) {
		return nil, nil
	}
	return g.find(g, q, after, until)
}

func (g *Growing) term(hash uint64) ([]uint32, error) {
	if l := g.terms[hash]; l != nil {
		return numbers(l.bytes, g.Records)
	}
	return nil, nil
}

func (g *Growing) ofKinds(pattern string) (out []uint32, err error) {
	for kind, l := range g.kinds {
		if !event.MatchType(pattern, kind) {
			continue
		}
		of, err := numbers(l.bytes, g.Records)
		if err != nil {
			return nil, err
		}
		out = append(out, of...)
	}
	return out, nil
}

func (g *Growing) places() ([]byte, error) { return g.offs, nil }

func (g *Growing) times() ([]byte, error) { return g.stamps, nil }

// Write makes the file of the index of a block that is full, in dir, where Open finds it. of
// is the block as it was before it was read to its end.
func (g *Growing) Write(dir string, of Source) (*Index, error) {
	if g.Records == 0 || g.Size != of.Size {
		return nil, fmt.Errorf("cannot index the block %s: %w", g.file.Path, ErrNotWhole)
	}
	g.Source = of
	raw := g.encode()
	x := &Index{head: g.head, path: Path(dir, g.Number)}
	// What is lost of it in a crash is seen by its sums.
	tmp := x.path + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		_ = os.Remove(tmp) // as much of it as there is
		return nil, err
	}
	return x, os.Rename(tmp, x.path)
}

func (g *Growing) add(off int64, r blocks.Record) error {
	if g.Records == 0 {
		g.Begin = r.Seq
	} else if r.Seq != g.Begin+event.Sequence(g.Records) {
		return ErrNotWhole
	}
	i := g.Records
	g.Records++
	g.offs = binary.LittleEndian.AppendUint32(g.offs, uint32(off))
	at := int64(timeNil)
	kind, name := r.Subject, ""
	if cut := strings.LastIndexByte(r.Subject, '.'); cut >= 0 {
		kind, name = r.Subject[:cut], r.Subject[cut+1:]
	}
	of := g.kinds[kind]
	if of == nil {
		of = &list{}
		g.kinds[kind] = of
	}
	of.add(i)
	if wire.IsGuard(r.Subject) {
		g.has(termGuard, name, i)
	} else {
		g.has(termStream, name, i)
		if e, err := wire.Decode(r.Subject, r.Data, r.Seq); err == nil { // else it is no event, whoever asks
			g.has(termActor, e.Actor, i)
			g.has(termCorrelation, e.CorrelationID, i)
			at = e.Milli()
			g.MinTime, g.MaxTime = min(g.MinTime, at), max(g.MaxTime, at)
		}
	}
	g.stamps = binary.LittleEndian.AppendUint64(g.stamps, uint64(at))
	return nil
}

func (g *Growing) has(kind byte, word string, i uint32) {
	t := term(kind, word)
	of := g.terms[t]
	if of == nil {
		of = &list{}
		g.terms[t] = of
	}
	of.add(i)
}

// encode gives the file.
func (g *Growing) encode() []byte {
	var lists []byte
	put := func(l *list) (off, length uint32) {
		off = uint32(len(lists))
		lists = binary.LittleEndian.AppendUint32(lists, crc32.Checksum(l.bytes, castagnoli))
		lists = append(lists, l.bytes...)
		return off, uint32(len(lists)) - off
	}
	var kinds, terms []byte
	for kind, l := range g.kinds {
		off, length := put(l)
		kinds = binary.LittleEndian.AppendUint16(kinds, uint16(len(kind)))
		kinds = append(kinds, kind...)
		kinds = binary.LittleEndian.AppendUint32(kinds, off)
		kinds = binary.LittleEndian.AppendUint32(kinds, length)
	}
	hashes := make([]uint64, 0, len(g.terms))
	for t := range g.terms {
		hashes = append(hashes, t)
	}
	slices.SortFunc(hashes, cmp.Compare)
	for _, t := range hashes {
		off, length := put(g.terms[t])
		terms = binary.LittleEndian.AppendUint64(terms, t)
		terms = binary.LittleEndian.AppendUint32(terms, off)
		terms = binary.LittleEndian.AppendUint32(terms, length)
	}
	at := uint32(headSize)
	place := func(part []byte) section {
		s := section{at, uint32(len(part)), crc32.Checksum(part, castagnoli)}
		at += s.Len
		return s
	}
	g.Places, g.Times, g.Kinds, g.Terms = place(g.offs), place(g.stamps), place(kinds), place(terms)
	g.Lists, g.Total = at, at+uint32(len(lists))
	var h bytes.Buffer
	if err := binary.Write(&h, binary.LittleEndian, g.head); err != nil {
		panic(err) // only for what has no fixed size
	}
	out := make([]byte, 0, int(at)+len(lists))
	out = append(out, magic...)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(h.Bytes(), castagnoli))
	out = append(out, h.Bytes()...)
	for _, part := range [][]byte{g.offs, g.stamps, kinds, terms, lists} {
		out = append(out, part...)
	}
	return out
}
