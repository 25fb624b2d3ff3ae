package blocks

import (
	"fmt"
	"hash"
	"os"

	"durablestream/event"
)

// Reader reads single records of a block file, of which one knows where they are.
type Reader struct {
	f   *os.File
	sum hash.Hash64
	buf []byte
	off int64 // of buf in the file
}

// NewReader opens a block file. Whoever calls it closes it.
func NewReader(f File) (*Reader, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return &Reader{f: file, sum: newSum(f.Index)}, nil
}

// Close closes the file.
func (r *Reader) Close() { _ = r.f.Close() } // it was only read

// Load reads [off, end) of the file, for the records in it.
func (r *Reader) Load(off, end int64) error {
	n := int(end - off)
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf, r.off = r.buf[:n], off
	if _, err := r.f.ReadAt(r.buf, off); err != nil {
		r.buf = nil
		return fmt.Errorf("cannot read the block %s: %w", r.f.Name(), err)
	}
	return nil
}

// Record gives the record at off, which must be seq's, in what was loaded last. Its parts
// are only lent.
func (r *Reader) Record(off int64, seq event.Sequence) (Record, error) {
	if off < r.off || off >= r.off+int64(len(r.buf)) {
		return Record{}, fmt.Errorf("%s: byte %d was not loaded", r.f.Name(), off)
	}
	rec, _, why := parse(r.sum, r.buf[off-r.off:])
	if why == "" && rec.Seq != seq {
		why = fmt.Sprintf("sequence %s is here", rec.Seq)
	}
	if why != "" {
		return Record{}, fmt.Errorf("%s, byte %d, where sequence %s should be: %s", r.f.Name(), off, seq, why)
	}
	return rec, nil
}
