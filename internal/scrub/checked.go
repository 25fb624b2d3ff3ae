package scrub

import (
	"os"
	"time"

	"durablestream/event"
	"durablestream/internal/blocks"
)

// readChecked gives nothing where there is no such file, or where it is of another Log:
// then everything is read.
func (s Store) readChecked() (known map[uint32]*scrubbed, last event.Sequence) {
	known = map[uint32]*scrubbed{}
	c := blocks.ReadChecked(s.Checked, s.Blocks)
	for _, k := range c.Blocks {
		known[k.Index] = &scrubbed{
			Block: blocks.Block{File: blocks.File{Index: k.Index, Size: k.Size}, First: k.First, Last: k.Last, Records: k.Records},
			mod:   time.Unix(0, k.Mod), at: time.UnixMilli(k.At),
		}
	}
	return known, c.Last
}

// writeChecked stores the blocks that were read whole. last is 0 while the engine runs: its
// newest messages may not have been acknowledged, and a crash may take them away.
func (s Store) writeChecked(known map[uint32]*scrubbed, last event.Sequence) error {
	_, made, err := blocks.Stream(s.Blocks)
	if err != nil {
		return err
	}
	c := blocks.Checked{Log: made, Last: last, Blocks: []blocks.CheckedBlock{}}
	for i, k := range known {
		if len(k.Bad) == 0 && len(k.Gaps) == 0 && !k.mod.IsZero() {
			c.Blocks = append(c.Blocks, blocks.CheckedBlock{Index: i, Size: k.Size, Mod: k.mod.UnixNano(), First: k.First, Last: k.Last, Records: k.Records, At: k.at.UnixMilli()})
		}
	}
	raw, err := c.Encode()
	if err != nil {
		return err
	}
	// It may be lost in a crash: then everything is read once more.
	tmp := s.Checked + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.Checked)
}

// readBlocks reads the blocks that have changed since they were read, or all blocks. Blocks
// that have gone are not in the result.
func readBlocks(files []blocks.File, known map[uint32]*scrubbed, all bool) (now map[uint32]*scrubbed, changed bool, err error) {
	now = make(map[uint32]*scrubbed, len(files))
	changed = len(files) != len(known)
	for _, f := range files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return nil, false, err
		}
		if k := known[f.Index]; k != nil && !all && k.mod.Equal(info.ModTime()) && k.Size == info.Size() {
			k.File = f
			now[f.Index] = k
			continue
		}
		changed = true
		begun := time.Now()
		b, err := blocks.CheckFile(f)
		if err != nil {
			return nil, false, err
		}
		now[f.Index] = &scrubbed{Block: b, mod: info.ModTime(), at: begun}
	}
	return now, changed, nil
}

// inOrder are the blocks of files.
func inOrder(files []blocks.File, known map[uint32]*scrubbed) []blocks.Block {
	found := make([]blocks.Block, 0, len(files))
	for _, f := range files {
		if k := known[f.Index]; k != nil {
			found = append(found, k.Block)
		}
	}
	return found
}

// Keep stores the blocks that were read whole, so that the next start need not read them.
// Call it at an orderly stop, when no process writes to the store any more.
func (s *Scrub) Keep() error {
	files, err := blocks.List(s.Blocks)
	if err != nil || len(files) == 0 {
		return err
	}
	now, changed, err := readBlocks(files, s.known, false)
	if err != nil {
		return err
	}
	rep := blocks.Join(inOrder(files, now), 0, 0)
	last := rep.Last
	if s.Node == "" { // elsewhere a copy may be made anew
		last = max(last, s.high)
	}
	if _, was := s.readChecked(); !changed && last == was {
		return nil
	}
	return s.writeChecked(now, last)
}
