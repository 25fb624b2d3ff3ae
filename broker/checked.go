package broker

import (
	"os"
	"path/filepath"
	"time"

	"durablestream/event"
	"durablestream/internal/blocks"
)

// CheckedFile is inside StoreDir.
const CheckedFile = blocks.CheckedFile

// checkedPath leads by the open directory: another's in its place is not written to.
func (b *Broker) checkedPath() string { return filepath.Join(pathOf(b.store), CheckedFile) }

// readChecked gives nothing where there is no such file, or where it is of another Log:
// then everything is read.
func (b *Broker) readChecked(dir string) (known map[uint32]*scrubbed, last event.Sequence) {
	known = map[uint32]*scrubbed{}
	c := blocks.ReadChecked(b.checkedPath(), dir)
	for _, k := range c.Blocks {
		known[k.Index] = &scrubbed{
			Block: blocks.Block{File: blocks.File{Index: k.Index, Size: k.Size}, First: k.First, Last: k.Last, Records: k.Records},
			mod:   time.Unix(0, k.Mod), at: time.UnixMilli(k.At),
		}
	}
	return known, c.Last
}

// writeChecked keeps what is known of the blocks that are whole. last is 0 while the
// engine runs: what it has just written may not have been acknowledged, and a crash
// may take it away.
func (b *Broker) writeChecked(dir string, known map[uint32]*scrubbed, last event.Sequence) error {
	_, made, err := blocks.Stream(dir)
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
	tmp := b.checkedPath() + ".tmp"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, b.checkedPath())
}

// readBlocks reads the blocks that are not known as they are, or all of them. What is
// known of blocks that have gone is left out.
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

// keepChecked is for an orderly stop, when nobody writes to the store any more. high is
// the last Sequence that this process has read there.
func (b *Broker) keepChecked(known map[uint32]*scrubbed, high event.Sequence) error {
	dir := b.blocksDir()
	files, err := blocks.List(dir)
	if err != nil || len(files) == 0 {
		return err
	}
	now, changed, err := readBlocks(files, known, false)
	if err != nil {
		return err
	}
	rep := blocks.Join(inOrder(files, now), 0, 0)
	last := rep.Last
	if b.cfg.Cluster == nil { // elsewhere a copy may be made anew
		last = max(last, high)
	}
	if _, was := b.readChecked(dir); !changed && last == was {
		return nil
	}
	return b.writeChecked(dir, now, last)
}

func (b *Broker) blocksDir() string {
	return blocks.Dir(filepath.Join(b.cfg.Dir, StoreDir), b.cfg.account())
}
