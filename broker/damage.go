package broker

import (
	"fmt"
	"path/filepath"
	"strings"

	"durablestream/internal/blocks"
)

// DamagedError is a store that must not be hosted as it is: the end of its Log is
// damaged, and the engine would cut it off and give the Sequences of what was
// acknowledged to other events.
type DamagedError struct {
	Dir   string // of the host
	Found []blocks.Damage
}

func (e *DamagedError) Error() string {
	words := make([]string, 0, len(e.Found))
	for _, d := range e.Found {
		words = append(words, d.String())
	}
	return fmt.Sprintf("broker: the store in %s is damaged at its end, and to host it would lose what is there: %s; "+
		"'dstream doctor --fix' repairs it", e.Dir, strings.Join(words, "; "))
}

// checkStore looks at the store before the engine does, which cuts off a block at the
// first record that it cannot read, with all that is whole behind it. It does so
// only where it does not trust its index, after a crash for example; then it reads all
// blocks itself, so that this costs no more than it does. Damaged blocks are copied
// first. What a crash leaves at the end of the newest block was acknowledged to
// nobody, and is no damage.
func (b *Broker) checkStore() error {
	dir := blocks.Dir(filepath.Join(b.cfg.Dir, StoreDir), b.cfg.account())
	last, current := blocks.LastWritten(dir)
	if current {
		return nil
	}
	rep, err := blocks.Check(dir, blocks.Begins(dir), last)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	files, err := blocks.List(dir)
	if err != nil || len(files) == 0 {
		return err
	}
	newest := files[len(files)-1].Path
	atEnd := rep.Last < last
	for _, d := range rep.Damage {
		b.cfg.Logger.Error("the store is damaged: 'dstream doctor' repairs it", "seq", d.Range.String(), "file", d.File, "offset", d.Off, "err", d.Why)
		if err := keepBlock(b.cfg.Dir, d.File); err != nil {
			return fmt.Errorf("broker: cannot keep a copy of the damaged block %s: %w", d.File, err)
		}
		atEnd = atEnd || d.File == newest && d.Off > 0
	}
	if atEnd {
		return &DamagedError{b.cfg.Dir, rep.Damage}
	}
	return nil
}
