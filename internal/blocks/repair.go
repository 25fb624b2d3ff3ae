package blocks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// How a record came back.
const (
	FromCopy   = "from a copy of the block" // as it was
	Corrected  = "corrected"                // as it was: the checksum proves it
	FromMirror = "from the mirror"          // the same event, with another time of storing
	Voided     = "filled"                   // what stood there was no event, and is not known
)

// Repaired is one Sequence that a repair has brought back.
type Repaired struct {
	Seq event.Sequence `json:"seq"`
	How string         `json:"how"`
}

// Repair writes the damaged blocks of a directory anew, of which no engine may run. Each
// Sequence from first to last that is missing is brought back from, in this order:
//
//   - a copy of its block in the directory copies ("": there are none);
//   - its damaged record, with the one byte put right, or the body that known.Body gives,
//     that makes the checksum right;
//   - known.Record.
//
// Each block that is exchanged is kept in the directory keep; "": nothing is written, and
// this only tells what would be done. What none of them has stays
// missing, and is in lost; then nothing is written. Blocks that are written anew keep every
// other record as it is. A crash leaves a block as it was or as it is to be. The engine's
// index is removed last, so that it makes it anew. After an error, done is empty if nothing
// was written. The end of ctx ends it, until it begins to write.
func Repair(ctx context.Context, dir, copies, keep string, first, last event.Sequence, known Known) (done []Repaired, lost []Range, err error) {
	r := &repair{known: known, corrected: map[event.Sequence]kept{}, copies: map[event.Sequence]kept{}}
	if err := r.read(ctx, dir); err != nil {
		return nil, nil, err
	}
	if err := r.readCopies(ctx, copies); err != nil {
		return nil, nil, err
	}
	if err := r.fill(ctx, first, last); err != nil {
		return nil, nil, err
	}
	if len(r.lost) > 0 || keep == "" {
		return r.done, r.lost, nil
	}
	written := false
	for _, b := range r.blocks {
		if !b.changed {
			continue
		}
		if err := b.write(keep); err != nil && !written {
			return nil, nil, err
		} else if err != nil {
			return r.done, nil, err
		}
		written = true
	}
	if err := os.Remove(filepath.Join(dir, engine.StateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r.done, nil, err
	}
	return r.done, nil, syncDir(dir)
}

// Known is what is known of lost Sequences elsewhere.
type Known struct {
	// Record gives what stood at a Sequence.
	Record func(event.Sequence) (Record, bool)
	// Body gives the data that perhaps stood there: it is taken only where a checksum
	// proves it. Nil: nothing is known.
	Body func(event.Sequence) []byte
}

type repair struct {
	known  Known
	blocks []*rewritten
	// What could be put right in the blocks, and what is in their copies.
	corrected, copies map[event.Sequence]kept

	done []Repaired
	lost []Range
}

// kept is a record that was found, and the block that it was in.
type kept struct {
	Record
	index uint32
}

// rewritten is a block with what it is to hold.
type rewritten struct {
	File
	records []placed
	changed bool
}

// placed is a record as bytes.
type placed struct {
	seq  event.Sequence
	time int64
	raw  []byte
}

func (r *repair) read(ctx context.Context, dir string) error {
	files, err := List(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		b := &rewritten{File: f}
		whole := int64(0)
		bad, err := Walk(f.Path, f.Index, func(_ int64, raw []byte, rec Record) error {
			whole += int64(len(raw))
			if n := len(b.records); n == 0 || rec.Seq > b.records[n-1].seq {
				b.records = append(b.records, placed{rec.Seq, rec.Time, bytes.Clone(raw)})
			}
			return nil
		})
		if err == nil {
			err = r.putRight(ctx, f, bad, r.corrected)
		}
		if err != nil {
			return err
		}
		// The engine's notes of what it gave up are left out too: it would give that up
		// again.
		size, err := sizeOf(f)
		if err != nil {
			return err
		}
		b.changed = whole != size
		r.blocks = append(r.blocks, b)
	}
	if len(r.blocks) == 0 {
		r.blocks = []*rewritten{{File: File{Index: 1, Path: filepath.Join(dir, "1"+engine.BlockSuffix)}}}
	}
	return nil
}

// sizeOf is how many bytes a block's records have when all is well. (A block that the engine
// has compressed is written as it was before, where it must be written.)
func sizeOf(f File) (int64, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	data, why, ok, err := decompressed(file)
	switch {
	case err != nil:
		return 0, err
	case why != "":
		return -1, nil
	case ok:
		return int64(len(data)), nil
	}
	return f.Size, nil
}

// readCopies reads the copies <n>.blk.<when>.
func (r *repair) readCopies(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if dir == "" || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), engine.BlockSuffix+".")
		n, err := strconv.ParseUint(name, 10, 32)
		if !ok || err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		bad, err := Walk(path, uint32(n), func(_ int64, _ []byte, rec Record) error {
			r.copies[rec.Seq] = kept{rec.clone(), uint32(n)}
			return nil
		})
		if err == nil {
			err = r.putRight(ctx, File{Index: uint32(n), Path: path}, bad, r.corrected)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// putRight tries to correct what is damaged in a file.
func (r *repair) putRight(ctx context.Context, f File, bad []Stretch, into map[event.Sequence]kept) error {
	if len(bad) == 0 {
		return nil
	}
	data, err := contents(f.Path)
	if err != nil {
		return err
	}
	for _, s := range bad {
		if err := ctx.Err(); err != nil {
			return err
		}
		if rec, ok := r.correct(f.Index, data[s.Off:min(s.End, int64(len(data)))]); ok {
			into[rec.Seq] = kept{rec, f.Index}
		}
	}
	return nil
}

// fill goes through the blocks and brings back what is missing.
func (r *repair) fill(ctx context.Context, first, last event.Sequence) error {
	due := max(1, first)
	for i, b := range r.blocks {
		had := b.records
		b.records = nil
		for _, rec := range had {
			for ; due < rec.seq; due++ {
				into := b
				if len(b.records) == 0 && i > 0 && !r.was(due, b.Index) { // the end of the block before is gone
					into = r.blocks[i-1]
				}
				if err := r.bring(ctx, into, due, rec.time); err != nil {
					return err
				}
			}
			b.records = append(b.records, rec)
			due = max(due, rec.seq+1)
		}
	}
	end := r.blocks[len(r.blocks)-1]
	for ; due <= last; due++ {
		at := int64(0)
		if n := len(end.records); n > 0 {
			at = end.records[n-1].time
		}
		if err := r.bring(ctx, end, due, at); err != nil {
			return err
		}
	}
	return nil
}

// was reports that a Sequence was found in a block.
func (r *repair) was(seq event.Sequence, index uint32) bool {
	if k, ok := r.corrected[seq]; ok {
		return k.index == index
	}
	k, ok := r.copies[seq]
	return ok && k.index == index
}

// bring puts the record of a Sequence at the end of a block, where it is known.
func (r *repair) bring(ctx context.Context, b *rewritten, seq event.Sequence, time int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	found, ok := r.corrected[seq]
	how := Corrected
	if !ok {
		found, ok = r.copies[seq]
		how = FromCopy
	}
	rec := found.Record
	if !ok {
		rec, ok = r.known.Record(seq)
		how = FromMirror
		if kind, _, guard := wire.ParseGuardSubject(rec.Subject); guard && kind == event.GuardVoid {
			how = Voided
		}
	}
	if !ok {
		if n := len(r.lost); n > 0 && r.lost[n-1].To+1 == seq {
			r.lost[n-1].To = seq
		} else {
			r.lost = append(r.lost, Range{From: seq, To: seq})
		}
		return nil
	}
	rec.Seq = seq
	if rec.Time == 0 {
		rec.Time = time
	}
	raw := rec.encode(b.Index)
	if _, _, why := parse(newSum(b.Index), raw); why != "" {
		return fmt.Errorf("the record of %d would not be readable: %s", seq, why)
	}
	b.records, b.changed = append(b.records, placed{seq, rec.Time, raw}), true
	r.done = append(r.done, Repaired{seq, how})
	return nil
}

// write exchanges the block's file, and keeps the one that was.
func (b *rewritten) write(keep string) error {
	if err := os.Link(b.Path, filepath.Join(keep, filepath.Base(b.Path))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(b.records) == 0 {
		return os.Remove(b.Path)
	}
	tmp := b.Path + ".repaired"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for _, r := range b.records {
		if err == nil {
			_, err = f.Write(r.raw)
		}
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, b.Path)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (r Record) clone() Record {
	r.Header, r.Data = bytes.Clone(r.Header), bytes.Clone(r.Data)
	return r
}

// encode gives a record's bytes in a block.
func (r Record) encode(index uint32) []byte {
	n := leastLen + len(r.Subject) + len(r.Header) + len(r.Data)
	flag := uint32(0)
	if r.Header != nil {
		n, flag = n+4, headerBit
	}
	le := binary.LittleEndian
	b := make([]byte, 0, n)
	b = le.AppendUint32(b, uint32(n)|flag)
	b = le.AppendUint64(b, uint64(r.Seq))
	b = le.AppendUint64(b, uint64(r.Time))
	b = le.AppendUint16(b, uint16(len(r.Subject)))
	b = append(b, r.Subject...)
	l := lengths{n, len(r.Subject), -1}
	if r.Header != nil {
		b = le.AppendUint32(b, uint32(len(r.Header)))
		b = append(b, r.Header...)
		l.header = len(r.Header)
	}
	b = append(b, r.Data...)
	b = b[:n]
	le.PutUint64(b[n-sumLen:], summed(newSum(index), b, l))
	return b
}
