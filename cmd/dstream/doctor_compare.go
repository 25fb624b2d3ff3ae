package main

import (
	"bytes"
	"fmt"
	"iter"
	"path/filepath"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// compare holds the mirror's lines against the store's records, as far as both can be
// read, and counts the events up to d.upTo (0: all) that follow the last line, which are
// the next host's to write. With provenOnly, lines that no chain proves do not count. disagree is
// where they do.
func (d *doctor) compare(s seen, provenOnly bool) (behind uint64, disagree, err error) {
	files, err := blocks.List(s.blocks)
	if err != nil {
		return 0, nil, err
	}
	pull, stop := iter.Pull2(mirror.Remains(d.dir))
	defer stop()
	c := comparison{s: s, pull: pull, provenOnly: provenOnly, upTo: d.upTo}
	c.next()
	for _, f := range files {
		_, err := blocks.Walk(f.Path, f.Index, func(_ int64, _ []byte, r blocks.Record) error {
			if disagree == nil {
				disagree = c.record(r)
			}
			return nil
		})
		if err != nil || disagree != nil {
			return 0, disagree, err
		}
	}
	return c.behind, nil, nil
}

type comparison struct {
	s          seen
	pull       func() (mirror.Remain, error, bool)
	provenOnly bool
	upTo       event.Sequence

	line   mirror.Remain
	more   bool
	broken bool // what is missing before the line may have been in it
	behind uint64
}

func (c *comparison) next() {
	c.broken = false
	for {
		l, err, more := c.pull()
		c.more = more
		if !more {
			return
		}
		c.broken = c.broken || err != nil || l.Broken
		if err == nil && (l.Proven || !c.provenOnly) {
			c.line = l
			c.broken = c.broken || l.First && filepath.Base(l.File) != mirror.ActiveName // older files were put away
			return
		}
		c.broken = true
	}
}

// record takes in one record of the store.
func (c *comparison) record(r blocks.Record) error {
	for c.more && c.line.Recorded.Seq < r.Seq {
		if !c.lost(c.line.Recorded.Seq) {
			return fmt.Errorf("the mirror and the log disagree: %s, line %d says seq %d, where the log has no event", c.line.File, c.line.Number, c.line.Recorded.Seq)
		}
		c.next()
	}
	switch {
	case c.more && c.line.Recorded.Seq == r.Seq:
		l := c.line
		if !bytes.Equal(l.Body, r.Data) {
			return fmt.Errorf("the mirror and the log disagree: %s, line %d (seq %d) is not the event in the log", l.File, l.Number, r.Seq)
		}
		c.next()
	case wire.IsGuard(r.Subject):
	default:
		if _, err := wire.Decode(r.Subject, r.Data, r.Seq); err != nil {
			return nil //nolint:nilerr // it is no event, and has no line
		}
		if c.more && !c.broken {
			return fmt.Errorf("the mirror and the log disagree: %s, line %d says seq %d, where seq %d was due", c.line.File, c.line.Number, c.line.Recorded.Seq, r.Seq)
		}
		if !c.more && (c.upTo == 0 || r.Seq <= c.upTo) {
			c.behind++
		}
	}
	return nil
}

// lost tells whether the store has lost a position.
func (c *comparison) lost(seq event.Sequence) bool {
	for _, d := range c.s.report.Damage {
		if d.Meets(seq-1, seq) {
			return true
		}
	}
	return false
}
