package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/blocks"
	"durablestream/internal/wire"
)

// DamagedError is a store that must not be hosted as it is: the end of its Log is
// damaged, and the engine would cut it off and give the Sequences of what was
// acknowledged to other events.
type DamagedError struct {
	Dir   string // of the host
	Found []blocks.Damage
}

// Unwrap gives wire.ErrDamaged.
func (e *DamagedError) Unwrap() error { return wire.ErrDamaged }

func (e *DamagedError) Error() string {
	words := make([]string, 0, len(e.Found))
	for _, d := range e.Found {
		words = append(words, d.String())
	}
	return fmt.Sprintf("broker: the store in %s is damaged at its end, and to host it would lose what is there: %s", e.Dir, strings.Join(words, "; ")) + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *DamagedError) Advice() string { return "; 'dstream doctor --fix' repairs it" }

// checkStore looks at the store before the engine does, which cuts off a block at the
// first record whose length it cannot believe, with all that is whole behind it: at
// its start where it does not trust its index, after a crash for example, and later when
// it reads the block. Where the engine reads all blocks at its start, so does this, and
// costs no more than that; else it reads those that are not as they were when they
// were last found whole. Damaged blocks are copied first. What a crash leaves at the
// end of the newest block was acknowledged to nobody, and is no damage.
//
// It leaves what it learnt to the scrub.
func (b *Broker) checkStore() error {
	dir := b.blocksDir()
	if !engineKnown() { // startScrub tells it
		return nil
	}
	if cfg, _, err := blocks.Stream(dir); err == nil && !isLog(cfg) { // openLog refuses it
		b.known = map[uint32]*scrubbed{}
		return nil
	}
	files, err := blocks.List(dir)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	known, kept := b.readChecked(dir)
	last, current := blocks.LastWritten(dir)
	last = max(last, kept)
	if b.known, _, err = readBlocks(files, known, !current); err != nil {
		if b.cfg.Cluster != nil {
			return &UnreadableCopyError{b.cfg.Dir, err}
		}
		return fmt.Errorf("broker: %w", err)
	}
	rep := blocks.Join(inOrder(files, b.known), blocks.Begins(dir), last)
	b.found, b.high = rep.Damage, rep.Last
	if len(rep.Damage) == 0 {
		return nil
	}
	newest, atEnd := "", rep.Last < last
	if n := len(files); n > 0 {
		newest = files[n-1].Path
		for _, s := range b.known[files[n-1].Index].Bad { // it would be cut off when it is read
			atEnd = atEnd || !s.Framed && s.End < files[n-1].Size
		}
	}
	for _, d := range rep.Damage {
		b.cfg.Logger.Error("the store is damaged: 'dstream doctor' repairs it", "seq", d.Range.String(), "file", d.File, "offset", d.Off, "err", d.Why)
		if d.File != "" {
			if err := keepBlock(b.cfg.Dir, d.File); err != nil {
				return fmt.Errorf("broker: cannot keep a copy of the damaged block %s: %w", d.File, err)
			}
		}
		atEnd = atEnd || !current && d.File == newest && d.Off > 0
	}
	if atEnd {
		return &DamagedError{b.cfg.Dir, rep.Damage}
	}
	return nil
}

// forgetUnwritten is for each start of the engine: see blocks.ForgetUnwritten.
func (b *Broker) forgetUnwritten() error {
	if !engineKnown() {
		return nil
	}
	if err := blocks.ForgetUnwritten(b.blocksDir()); err != nil {
		return fmt.Errorf("broker: cannot remove the engine's state file: %w", err)
	}
	return nil
}

func isLog(cfg jetstream.StreamConfig) bool { return wire.CheckLog(cfg, 0) == nil }

// keep copies a damaged block.
func (s *scrub) keep(path string) {
	if err := keepBlock(s.b.cfg.Dir, path); err != nil {
		s.b.cfg.Logger.Warn("cannot keep a copy of a damaged block", "file", path, "err", err)
	}
}

// mostKept bounds the copies of damaged blocks, each of some 8 MB.
const mostKept = 32

// keepBlock copies a block file to the directory of the damaged ones, under a name that
// tells its state.
func keepBlock(dir, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	aside := filepath.Join(dir, DamagedDir)
	to := filepath.Join(aside, fmt.Sprintf("%s.%s", filepath.Base(path), info.ModTime().UTC().Format("20060102T150405.000")))
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if kept, err := os.ReadDir(aside); err != nil || len(kept) >= mostKept {
		return errors.Join(err, fmt.Errorf("%s holds %d already", aside, len(kept)))
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
