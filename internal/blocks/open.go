package blocks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// Part is a part of an atomic batch at the end of a Log, without the message that commits
// the batch.
type Part struct {
	Batch string // its id
	Range        // of Sequences that hold it
}

// PartOf tells of the part that ends with the message at seq, which has the headers h; nil:
// the message ends no part.
func PartOf(h nats.Header, seq event.Sequence) *Part {
	n, open := wire.OpenBatch(h)
	if !open || n > uint64(seq) {
		return nil
	}
	return &Part{h.Get(wire.HeaderBatchID), Range{From: seq - event.Sequence(n) + 1, To: seq}}
}

// part is PartOf for a record.
func (r Record) part() (*Part, error) {
	if len(r.Header) == 0 {
		return nil, nil
	}
	h, err := nats.DecodeHeadersMsg(r.Header)
	if err != nil {
		return nil, fmt.Errorf("the headers of %s: %w", r.Seq, err)
	}
	return PartOf(h, r.Seq), nil
}

// OpenEnd gives the part of a batch with which the blocks of a directory end; nil: there is
// none. No engine may be writing to them.
func OpenEnd(dir string) (*Part, error) {
	files, err := List(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range slices.Backward(files) {
		var last Record
		if _, err := Walk(f.Path, f.Index, func(_ int64, _ []byte, r Record) error {
			if r.Seq > last.Seq {
				last = Record{Seq: r.Seq, Header: append(last.Header[:0], r.Header...)}
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if last.Seq > 0 {
			return last.part()
		}
	}
	return nil, nil
}

// CutPart takes the part p off the end of the blocks of a directory, of which no engine may
// run, and whose records are whole. Each block that is exchanged is kept in the directory
// keep. The engine's index goes first, so that nobody expects what is cut off; then the
// blocks, the newest first: a crash leaves a part that is shorter, and cut off the next time.
func CutPart(ctx context.Context, dir, keep string, p Part) error {
	r := &repair{}
	if err := r.read(ctx, dir); err != nil {
		return err
	}
	if err := r.holds(p); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, engine.StateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	for _, b := range slices.Backward(r.blocks) {
		at := slices.IndexFunc(b.records, func(x placed) bool { return x.seq >= p.From })
		if at < 0 {
			break
		}
		b.records = b.records[:at]
		if err := errors.Join(b.write(keep), syncDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// holds returns an error unless the blocks end with p, and each of its Sequences holds the
// member of the batch that belongs there.
func (r *repair) holds(p Part) error {
	due := p.From
	for _, b := range r.blocks {
		sum := newSum(b.Index)
		for _, x := range b.records {
			if x.seq < p.From {
				continue
			}
			rec, _, why := parse(sum, x.raw)
			if why != "" {
				return fmt.Errorf("the record of %s: %s", x.seq, why)
			}
			is, err := rec.part()
			if err != nil {
				return err
			}
			if rec.Seq != due || is == nil || is.Batch != p.Batch || is.From != p.From {
				return fmt.Errorf("sequence %s does not belong to the batch of which a part is stored from %s on", rec.Seq, p.From)
			}
			due++
		}
	}
	if due != p.To+1 {
		return fmt.Errorf("the store ends at %d, and not with the part of a batch up to %s", due-1, p.To)
	}
	return nil
}
