package blocks

import (
	"bytes"
	"encoding/binary"
)

const (
	mostTried   = 4 << 10  // bytes of a record of which each is tried with each value
	mostBits    = 64 << 10 // bytes of a record of which each bit is tried
	mostSubject = 1 << 10
)

// correct finds the one record that a stretch was before one byte of it was changed, or
// its body, which line knows. The checksum says that it is right.
func (r *repair) correct(index uint32, stretch []byte) (Record, bool) {
	if len(stretch) < leastLen || len(stretch) > mostLen {
		return Record{}, false
	}
	sum := newSum(index)
	b := bytes.Clone(stretch)
	right := func() (Record, bool) {
		rec, n, why := parse(sum, b)
		return rec, why == "" && n == len(b) && !rec.tombstone()
	}
	if rec, ok := lengthsPutRight(b, right); ok {
		return rec, true
	}
	copy(b, stretch)
	l, why := head(b)
	if why != "" || l.record != len(b) {
		return Record{}, false
	}
	rec := cut(b, l)
	if r.known.Body != nil {
		if body := r.known.Body(rec.Seq); body != nil && len(body) == len(rec.Data) {
			copy(rec.Data, body) // which is b's
			if got, ok := right(); ok {
				return got, true
			}
			copy(b, stretch)
		}
	}
	have := binary.LittleEndian.AppendUint64(nil, summed(sum, b, l))
	differ := 0
	for i, c := range b[len(b)-sumLen:] {
		if have[i] != c {
			differ++
		}
	}
	if differ == 1 { // by chance once in 2^53
		copy(b[len(b)-sumLen:], have)
		return right()
	}
	if len(b) > mostBits {
		return Record{}, false
	}
	for i := 4; i < len(b)-sumLen; i++ {
		was := b[i]
		for v := 1; v < 256; v++ {
			if len(b) > mostTried && v&(v-1) != 0 {
				continue
			}
			b[i] = was ^ byte(v)
			if summed(sum, b, l) == binary.LittleEndian.Uint64(b[len(b)-sumLen:]) {
				if rec, ok := right(); ok {
					return rec, true
				}
			}
		}
		b[i] = was
	}
	return Record{}, false
}

// lengthsPutRight tries the lengths that a record of this size can have.
func lengthsPutRight(b []byte, right func() (Record, bool)) (Record, bool) {
	le := binary.LittleEndian
	for _, flag := range []uint32{headerBit, 0} {
		le.PutUint32(b, uint32(len(b))|flag)
		subject := le.Uint16(b[20:])
		if rec, ok := right(); ok {
			return rec, true
		}
		for n := 1; n <= min(mostSubject, len(b)-leastLen-4); n++ {
			le.PutUint16(b[20:], uint16(n))
			at := headLen + n
			if flag == 0 {
				if rec, ok := right(); ok {
					return rec, true
				}
				continue
			}
			end := bytes.Index(b[at+4:], headerEnd)
			if !bytes.HasPrefix(b[at+4:], headerBegin) || end < 0 {
				continue
			}
			was := le.Uint32(b[at:])
			le.PutUint32(b[at:], uint32(end+len(headerEnd)))
			if rec, ok := right(); ok {
				return rec, true
			}
			le.PutUint32(b[at:], was)
		}
		le.PutUint16(b[20:], subject)
	}
	return Record{}, false
}
