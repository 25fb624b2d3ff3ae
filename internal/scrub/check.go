package scrub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// Known is the result of the last check of each block of a store.
type Known struct {
	blocks map[uint32]*scrubbed
	found  []blocks.Damage
	high   event.Sequence // that was read
}

// Messages is how many there are, and how many of them are in blocks that were changed since
// then.
func (k Known) Messages(since time.Time) (all, recent uint64) {
	for _, b := range k.blocks {
		all += b.Records
		if b.mod.IsZero() || b.mod.After(since) {
			recent += b.Records
		}
	}
	return all, recent
}

// EndError is a copy of the Log that is damaged at its end. An engine would cut the damage
// off, and give the Sequences of acknowledged events to other events.
type EndError struct{ Found []blocks.Damage }

func (e *EndError) Error() string { return fmt.Sprintf("the store is damaged at its end: %v", e.Found) }

// ReadError is a block that cannot be read.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }

// Unwrap gives the error of the file.
func (e *ReadError) Unwrap() error { return e.Err }

// Check looks at the store before the engine does, which cuts off a block at the
// first record whose length it cannot believe, with all that is whole behind it: at
// its start where it does not trust its index, after a crash for example, and later when
// it reads the block. Where the engine reads all blocks at its start, so does this, and
// costs no more than that; else it reads those that are not as they were when they
// were last found whole. Damaged blocks are copied first. What a crash leaves at the
// end of the newest block was acknowledged to nobody, and is no damage.
//
// It returns an *EndError for damage at the end, and a *ReadError for a block that cannot be
// read at all.
func (s Store) Check() (k Known, err error) {
	k.blocks = map[uint32]*scrubbed{}
	if cfg, _, err := blocks.Stream(s.Blocks); err == nil && !isLog(cfg) { // who opens it refuses it
		return k, nil
	}
	files, err := blocks.List(s.Blocks)
	if err != nil {
		return k, err
	}
	known, kept := s.readChecked()
	last, current := blocks.LastWritten(s.Blocks)
	last = max(last, kept)
	if k.blocks, _, err = readBlocks(files, known, !current); err != nil {
		return k, &ReadError{err}
	}
	rep := blocks.Join(inOrder(files, k.blocks), blocks.Begins(s.Blocks), last)
	k.found, k.high = rep.Damage, rep.Last
	if len(rep.Damage) == 0 {
		return k, nil
	}
	newest, atEnd := "", rep.Last < last
	if n := len(files); n > 0 {
		newest = files[n-1].Path
		for _, bad := range k.blocks[files[n-1].Index].Bad { // it would be cut off when it is read
			atEnd = atEnd || !bad.Framed && bad.End < files[n-1].Size
		}
	}
	for _, d := range rep.Damage {
		s.Logger.Error("the store is damaged: 'dstream doctor' repairs it", "seq", d.Range.String(), "file", d.File, "offset", d.Offset, "err", d.Why)
		if d.File != "" {
			if err := s.keep(d.File); err != nil {
				return k, fmt.Errorf("cannot keep a copy of the damaged block %s: %w", d.File, err)
			}
		}
		atEnd = atEnd || !current && d.File == newest && d.Offset > 0
	}
	if atEnd {
		return k, &EndError{rep.Damage}
	}
	return k, nil
}

func isLog(cfg jetstream.StreamConfig) bool { return wire.CheckLog(cfg, 0) == nil }

// mostKept bounds the copies of damaged blocks, each of some 8 MB.
const mostKept = 32

// keep copies a damaged block file aside, under a name that shows its state.
func (s Store) keep(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	to := filepath.Join(s.Aside, fmt.Sprintf("%s.%s", filepath.Base(path), info.ModTime().UTC().Format("20060102T150405.000")))
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(s.Aside, 0o700); err != nil {
		return err
	}
	if kept, err := os.ReadDir(s.Aside); err != nil || len(kept) >= mostKept {
		return errors.Join(err, fmt.Errorf("%s holds %d already", s.Aside, len(kept)))
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, from)
	return errors.Join(err, copied.Sync(), copied.Close())
}
