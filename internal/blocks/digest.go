package blocks

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"durablestream/event"
)

// DigestRange asks for the digests of a copy of the Log: one for each run of Every
// Sequences from From to To.
type DigestRange struct {
	From  event.Sequence `json:"from"`
	To    event.Sequence `json:"to"`
	Every uint64         `json:"every"`
}

// mostDigests bounds an answer.
const mostDigests = 1 << 10

// Digests asks for as many digests of a range as an answer holds.
func Digests(from, to event.Sequence) DigestRange {
	n := Range{From: from, To: to}.Count()
	return DigestRange{from, to, max(1, (n+mostDigests-1)/mostDigests)}
}

// Run is the range that digest i is of.
func (q DigestRange) Run(i int) Range {
	from := q.From + event.Sequence(uint64(i)*q.Every)
	return Range{From: from, To: min(q.To, from+event.Sequence(q.Every-1))}
}

// Digest is what a copy of the Log holds. Two copies hold the same records, with the same
// times, in a run where their digests are equal.
type Digest struct {
	Last    event.Sequence `json:"last"` // that can be read, whatever was asked
	Missing uint64         `json:"missing"`
	Sums    []string       `json:"sums"` // one for each run
	Error   string         `json:"error,omitempty"`
}

// DigestOf reads a whole copy, in the directory of its blocks, for the digests of a range.
func DigestOf(dir string, q DigestRange) (Digest, error) {
	files, err := List(dir)
	if err != nil {
		return Digest{}, err
	}
	d := digester{q: q, sum: sha256.New()}
	for _, f := range files {
		if _, err := Walk(f.Path, f.Index, func(_ int64, _ []byte, r Record) error { d.add(r); return nil }); err != nil {
			return Digest{}, err
		}
	}
	d.until(q.To)
	n := Range{From: q.From, To: min(q.To, d.Last)}
	if q.From <= n.To {
		d.Missing = n.Count() - min(n.Count(), d.had)
	}
	return d.Digest, nil
}

type digester struct {
	Digest
	q   DigestRange
	sum hash.Hash
	had uint64 // records in the range
	buf []byte
}

func (d *digester) add(r Record) {
	if r.Seq <= d.Last {
		return // the engine passes over it too
	}
	d.Last = r.Seq
	if r.Seq < d.q.From || r.Seq > d.q.To {
		return
	}
	d.until(r.Seq - 1)
	d.had++
	b := d.buf[:0]
	for _, n := range []uint64{uint64(r.Seq), uint64(r.Time), uint64(len(r.Subject)), uint64(len(r.Header)), uint64(len(r.Data))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(append(append(b, r.Subject...), r.Header...), r.Data...)
	d.buf = b
	d.sum.Write(b)
}

// until ends the runs that end at seq or before.
func (d *digester) until(seq event.Sequence) {
	for i := len(d.Sums); i < mostDigests; i++ {
		run := d.q.Run(i)
		if run.From > d.q.To || run.To > seq {
			return
		}
		d.Sums = append(d.Sums, hex.EncodeToString(d.sum.Sum(nil)[:8]))
		d.sum.Reset()
	}
}
