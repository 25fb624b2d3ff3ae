package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/console"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// compare holds the mirror's lines against the store's records, as far as both can be
// read, and counts the events up to d.upTo (0: all) that follow the last line, which are
// the next host's to write. With provenOnly, lines that no chain proves do not count. disagree is
// where they do.
func (d *Examination) compare(s seen, provenOnly bool) (behind uint64, disagree, err error) {
	files, err := blocks.List(s.blocks)
	if err != nil {
		return 0, nil, err
	}
	pull, stop := iter.Pull2(mirror.Remains(d.cfg.Dir))
	defer stop()
	c := comparison{s: s, pull: pull, provenOnly: provenOnly, upTo: d.upTo}
	c.next()
	for _, f := range files {
		_, err := blocks.Walk(f.Path, f.Index, func(_ int64, _ []byte, r blocks.Record) error {
			if disagree == nil && (s.part == nil || r.Seq < s.part.From || s.mirror.Last >= s.part.From) { // else nobody was shown it
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

// conflict is where lines of the mirror that their chain proves are not what the log holds.
type conflict struct {
	same   event.Sequence // up to where they are equal, before the first difference; 0: nowhere
	differ []wire.Range   // positions at which the two hold different things
	beyond wire.Range     // positions behind the log's end that only the mirror has; To 0: none
}

// conflict finds all of what compare, with provenOnly, stops at.
func (d *Examination) conflict(s seen) (found conflict, err error) {
	files, err := blocks.List(s.blocks)
	if err != nil {
		return found, err
	}
	pull, stop := iter.Pull2(mirror.Remains(d.cfg.Dir))
	defer stop()
	c := comparison{s: s, pull: pull, provenOnly: true}
	c.next()
	open := false // the last difference may go on
	differs := func(seq event.Sequence) {
		if open {
			found.differ[len(found.differ)-1].To = seq
		} else {
			found.differ = append(found.differ, wire.Range{From: seq, To: seq})
		}
		open = true
	}
	end := event.Sequence(0)
	for _, f := range files {
		_, err := blocks.Walk(f.Path, f.Index, func(_ int64, _ []byte, r blocks.Record) error {
			end = max(end, r.Seq)
			for c.more && c.line.Recorded.Seq < r.Seq {
				if !c.lost(c.line.Recorded.Seq) {
					differs(c.line.Recorded.Seq)
				}
				c.next()
			}
			switch {
			case c.more && c.line.Recorded.Seq == r.Seq && bytes.Equal(c.line.Body, r.Data):
				open = false
				if len(found.differ) == 0 {
					found.same = r.Seq
				}
				c.next()
			case c.more && c.line.Recorded.Seq == r.Seq:
				differs(r.Seq)
				c.next()
			case !wire.IsGuard(r.Subject) && c.more && !c.broken:
				if _, err := wire.Decode(r.Subject, r.Data, r.Seq); err == nil {
					differs(r.Seq)
				}
			}
			return nil
		})
		if err != nil {
			return found, err
		}
	}
	for ; c.more && c.line.Recorded.Seq <= s.mirror.Last; c.next() { // a host that runs writes more
		if seq := c.line.Recorded.Seq; seq > end {
			found.beyond = wire.Range{From: end + 1, To: seq}
		}
	}
	return found, nil
}

func (c conflict) String() string {
	words := "the mirror and the log hold different things at position " + console.List(c.differ)
	if c.beyond.To > 0 {
		words += fmt.Sprintf(", and only the mirror has position %s", c.beyond)
	}
	if c.same > 0 {
		return words + fmt.Sprintf("; up to %d they are equal. The mirror's chain proves its lines: they are the older ones, of a log whose store was cut there (its end was lost, or it was put back to an earlier state) and that was written on since", c.same)
	}
	return words + "; they have no event in common. The mirror's chain proves its lines: they are the older ones, of a log that was cut and begun anew, or another log's"
}

// mayRewrite tells whether the mirror may be written anew from the log: nothing that its
// chain proves is given up by that, or a majority of the nodes holds what this log does.
func (d *Examination) mayRewrite(s seen) bool {
	return s.foreign == nil || d.agrees && s.conflict.beyond.To == 0
}

// conflictFinding is about a mirror that perhaps has the only copy of what the log has lost.
func (d *Examination) conflictFinding(s seen) {
	f := Finding{Name: FoundMirror, Sure: true, What: s.conflict.String()}
	if damage := (*mirror.DamageError)(nil); errors.As(s.mirror.Problem, &damage) {
		f.What += fmt.Sprintf(". %s, line %d is damaged too: a restore refuses the file while that line is as it is, so put an undamaged copy of the file back first, if there is one", damage.File, damage.Line)
	}
	switch {
	case d.clustered() && !d.agrees:
		f.Sure = false
		f.What += "; the other nodes tell which of the two is right: let this one run, or give --server of another one"
	case d.cfg.AcceptLoss:
		f.Repair = "gives up what only the mirror has: moves its files away, and writes them anew from the log" + d.ends()
		f.Keeps = "the files as they are, in durable_stream/" + broker.DamagedDir
		f.fix = d.rewriteMirror
	default:
		f.Limits = d.waysOut()
	}
	d.add(f)
}

// waysOut says what a person may do who has two histories.
func (d *Examination) waysOut() string {
	return fmt.Sprintf("--fix changes neither the mirror nor the log, for each has events that the other lacks. "+
		"To see what the mirror has, restore it into a new directory: 'dstream --dir <new> restore --from %s'. "+
		"To go on with the log as it is, --fix --accept-loss gives up the mirror's lines, and keeps its files in durable_stream/%s", d.cfg.Dir, broker.DamagedDir)
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
