package broker

import (
	"fmt"
	"path/filepath"

	"durablestream/event"
	"durablestream/internal/finder"
)

// IndexDir is inside StoreDir and holds the indexes of the blocks. It may be removed at any
// time.
const IndexDir = "index"

// startFinder answers readers out of the block files. With an engine that is not known
// readers search with the engine.
func (b *Broker) startFinder() (err error) {
	if !engineKnown() {
		return nil
	}
	store := b.scrubbed()
	b.finder, err = finder.Start(finder.Config{
		Blocks: store.Blocks, Dir: filepath.Join(pathOf(b.store), IndexDir), Node: store.Node, Logger: b.cfg.Logger, Admin: b.admin,
		Last: func() (event.Sequence, error) {
			is, err := b.bounds()
			return is.Last, err
		},
		Full: func() bool { return b.Disk().Full },
	})
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// Indexed is the Sequence up to which this host finds messages by its index files; 0 where
// there are none.
func (b *Broker) Indexed() event.Sequence {
	if b.finder == nil {
		return 0
	}
	return b.finder.Indexed()
}
