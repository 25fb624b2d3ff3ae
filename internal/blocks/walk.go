package blocks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/s2"

	"durablestream/internal/engine"
)

// Stretch is a part of a block file in which no record can be read.
type Stretch struct {
	Off, End int64 // bytes from the beginning of the file; End is behind the last
	Why      string
	// Framed tells that the lengths in it lead to its end, so that the engine passes over
	// it; otherwise it cuts the file off here when it reads it.
	Framed bool
}

// Walk reads the block file at path and calls record for each record in it, with its
// place and its bytes as they are stored, which are only lent. It gives the stretches
// in which there is none: it finds its way again behind them. It holds little of the
// file as long as that is whole, and all of it otherwise.
func Walk(path string, index uint32, record func(off int64, raw []byte, r Record) error) ([]Stretch, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if data, why, ok, err := decompressed(f); err != nil || ok {
		if err != nil {
			return nil, err
		}
		bad, err := walkDamaged(data, 0, index, record)
		if why != "" && err == nil { // what follows cannot be read at all
			bad = append(bad, Stretch{Off: int64(len(data)), End: mostLen, Why: why})
		}
		return bad, err
	}
	off, whole, err := walkWhole(f, index, 0, record)
	if err != nil || whole {
		return nil, err
	}
	rest, err := io.ReadAll(io.NewSectionReader(f, off, 1<<62))
	if err != nil {
		return nil, err
	}
	return walkDamaged(rest, off, index, record)
}

// decompressed returns what a block holds that the engine has compressed (see
// engine.Compressed), as far as it can be read, and why not all of it can. ok is false for a
// block that is not compressed. The places that Walk gives are in there.
func decompressed(f *os.File) (data []byte, why string, ok bool, err error) {
	begin := engine.Compressed()
	head := make([]byte, len(begin))
	if _, err := f.ReadAt(head, 0); err != nil || !bytes.Equal(head, begin) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, "", false, err
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, int64(len(head)), 1<<62))
	if err != nil {
		return nil, "", true, err
	}
	_, n := binary.Uvarint(raw)
	if n <= 0 || len(raw) < n+sumLen {
		return nil, "a compressed block is cut off", true, nil
	}
	body, sum := raw[n:len(raw)-sumLen], raw[len(raw)-sumLen:]
	if data, why = inflate(body); why == "" {
		data = append(data, sum...)
	}
	return data, why, true, nil
}

// inflate decompresses as much as there is, and says why not all.
func inflate(body []byte) (data []byte, why string) {
	data, err := io.ReadAll(io.LimitReader(s2.NewReader(bytes.NewReader(body)), mostLen))
	if err != nil {
		why = "a compressed block cannot be decompressed: " + err.Error()
	}
	return data, why
}

// contents is a block file as Walk tells of it.
func contents(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, _, ok, err := decompressed(f)
	if err != nil || ok {
		return data, err
	}
	return io.ReadAll(f)
}

// ErrChanged is a block file that no longer holds what was read of it before.
var ErrChanged = errors.New("the block has changed")

// End is how far a block file was read.
type End struct {
	Off int64
	Sum uint64 // the checksum that ends there; 0 at the beginning
}

// WalkOn is Walk for a file that is being written, from where one has read it to: up to
// its end, or up to what is no whole record. ErrChanged where the file does not hold any more
// what was read before.
func WalkOn(file File, from End, record func(off int64, raw []byte, r Record) error) (End, error) {
	f, err := os.Open(file.Path)
	if err != nil {
		return from, err
	}
	defer f.Close()
	if from.Off > 0 {
		sum, err := sumBefore(f, from.Off)
		if err == nil && sum != from.Sum || errors.Is(err, io.EOF) {
			return from, ErrChanged
		}
		if err != nil {
			return from, err
		}
	}
	off, _, err := walkWhole(f, file.Index, from.Off, record)
	if err != nil || off == from.Off {
		return from, err
	}
	sum, err := sumBefore(f, off)
	return End{off, sum}, err
}

func sumBefore(f *os.File, off int64) (uint64, error) {
	var b [sumLen]byte
	_, err := f.ReadAt(b[:], off-sumLen)
	return binary.LittleEndian.Uint64(b[:]), err
}

const window = 256 << 10

// walkWhole goes through a file from a record on, up to its end (then whole is true) or up to
// the first record that is damaged, and gives the place.
func walkWhole(f *os.File, index uint32, from int64, record func(int64, []byte, Record) error) (_ int64, whole bool, err error) {
	sum := newSum(index)
	buf := make([]byte, 0, window)
	for off := from; ; { // buf[0] is at off
		n, err := f.ReadAt(buf[len(buf):cap(buf)], off+int64(len(buf)))
		buf = buf[:len(buf)+n]
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return 0, false, err
		}
		at := 0
		for at < len(buf) {
			if left := len(buf) - at; !end { // does it go on behind the window?
				if left < leastLen {
					break
				}
				if need := int(binary.LittleEndian.Uint32(buf[at:]) &^ headerBit); need > left && need <= mostLen {
					break
				}
			}
			r, n, why := parse(sum, buf[at:])
			if why != "" {
				return off + int64(at), false, nil
			}
			if !r.tombstone() {
				if err := record(off+int64(at), buf[at:at+n], r); err != nil {
					return 0, false, err
				}
			}
			at += n
		}
		if end && at >= len(buf) {
			return off + int64(at), true, nil
		}
		off += int64(at)
		left := len(buf) - at
		if at == 0 && len(buf) == cap(buf) { // a record that is larger than the window
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
			continue
		}
		copy(buf, buf[at:])
		buf = buf[:left]
	}
}

// walkDamaged goes through the rest of a file, which is at off in it and begins with
// a damaged record.
func walkDamaged(rest []byte, off int64, index uint32, record func(int64, []byte, Record) error) ([]Stretch, error) {
	sum := newSum(index)
	var bad []Stretch
	for at := 0; at < len(rest); {
		r, n, why := parse(sum, rest[at:])
		if why == "" && r.tombstone() {
			at += n
			continue
		}
		if why == "" {
			if err := record(off+int64(at), rest[at:at+n], r); err != nil {
				return bad, err
			}
			at += n
			continue
		}
		begin := at
		at = nextRecord(sum, rest, at)
		bad = append(bad, Stretch{off + int64(begin), off + int64(at), why, framed(rest[begin:at])})
	}
	return bad, nil
}

func framed(b []byte) bool {
	for len(b) > 0 {
		l, why := head(b)
		if why != "" || l.record > len(b) {
			return false
		}
		b = b[l.record:]
	}
	return true
}

// nextRecord finds the next place behind at where a whole record begins; the end of b
// if there is none.
func nextRecord(sum hash.Hash64, b []byte, at int) int {
	if l, why := head(b[at:]); why == "" { // most damage leaves the length as it was
		if _, _, why := parse(sum, b[at+l.record:]); why == "" || at+l.record == len(b) {
			return at + l.record
		}
	}
	for i := at + 1; i+leastLen <= len(b); i++ {
		l, why := head(b[i:])
		if why != "" || l.subject == 0 || b[i+11]&0xfe != 0 { // no Sequence is as high
			continue
		}
		if !bytes.HasPrefix(b[i+headLen:], []byte("events.")) && !bytes.HasPrefix(b[i+headLen:], []byte("guards.")) {
			continue
		}
		if _, _, why := parse(sum, b[i:]); why == "" {
			return i
		}
	}
	return len(b)
}
