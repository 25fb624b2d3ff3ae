package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/mirror"
)

// A log that ends with a part of a batch can only lose that part where its rest is gone: no
// append can follow it. That is safe where nobody was shown the part: it was acknowledged to
// nobody, since the engine acknowledges a batch after its last message; readers and mirrors
// hold back what is not committed. Those of a version before that did not, and their mirror
// tells: a part of which the mirror has a line stays. The positions are then given to other
// events, and whoever appends the batch again, with the same ids, has it stored once.

// settled is the last position that readers are shown.
func (s seen) settled() event.Sequence {
	if s.part != nil {
		return s.part.From - 1
	}
	return s.report.Last
}

// rest tells whether the host keeps the rest of the batch.
func (d *Examination) rest(s seen) bool {
	name := engine.BatchDir(s.part.Batch)
	return paths.Exists(filepath.Join(d.host, broker.AsideDir, name)) || paths.Exists(filepath.Join(filepath.Dir(s.blocks), engine.BatchesDir, name))
}

func (d *Examination) tornFinding(s seen) {
	f := Finding{Name: FoundTorn, Sure: true, What: fmt.Sprintf(
		"the log ends with a part of a batch, position %s, that was acknowledged to nobody, and that no reader is shown: appends are refused behind it", s.part.Range)}
	why := d.mayCut(s)
	if why == nil {
		f.Repair = "cuts the part off: the next events get its positions, and the batch can be appended again with the same ids" + d.ends()
		f.Keeps = "the blocks as they are, in durable_stream/" + broker.DamagedDir
		f.fix = d.cutPart
	} else {
		f.Limits = why.Error()
	}
	d.add(f)
}

// mayCut says why the part must stay.
func (d *Examination) mayCut(s seen) error {
	var torn *mirror.TornError
	switch {
	case d.rest(s) && !d.cfg.AcceptLoss:
		return errors.New("the rest of the batch is kept: a host completes it as soon as there is space for it; if it does not, --accept-loss cuts the part off instead")
	case s.mirror.Last >= s.part.From:
		return fmt.Errorf("the mirror has lines of it, up to position %d, so an earlier version has shown it to readers, and it is not cut off: "+
			"'dstream --dir NEW restore --from %s' makes a log of what the mirror holds", s.mirror.Last, d.cfg.Dir)
	case s.mirror.Problem != nil && !errors.As(s.mirror.Problem, &torn):
		return errors.New("the mirror is damaged, so nobody knows whether it has lines of the part: put the mirror's files back from a copy")
	case s.part.From == s.first && s.first > 1:
		return errors.New("nothing would be left of the log: restore it from its mirror into another directory")
	}
	return nil
}

// cutPart takes the part off the store.
func (d *Examination) cutPart(ctx context.Context) (outcome string, err error) {
	release, err := d.stopHost(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := d.read()
	if err != nil {
		return "", err
	}
	if s.part == nil { // the host has completed it
		return "the log does not end with a part of a batch by now", nil
	}
	if err := d.mayCut(s); err != nil {
		return "", err
	}
	keep, err := d.aside()
	if err != nil {
		return "", err
	}
	defer removeEmpty(keep)
	// What was known of the end would be missed at the next start.
	checked := filepath.Join(d.host, broker.StoreDir, blocks.CheckedFile)
	if err := os.Remove(checked); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := blocks.CutPart(ctx, s.blocks, keep, *s.part); err != nil {
		return "", err
	}
	err = os.RemoveAll(filepath.Join(d.host, broker.AsideDir))
	return fmt.Sprintf("position %s was cut off, and the log ends at %d; the blocks as they were are in %s", s.part.Range, s.settled(), keep), err
}
