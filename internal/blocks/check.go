package blocks

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// Range is a run of Sequences.
type Range = wire.Range

// File is one block file.
type File struct {
	Index uint32
	Path  string
	Size  int64
}

// Dir is where an engine keeps the blocks of an account's Log, in its store.
func Dir(store, account string) string {
	return engine.MessagesPath(store, account, wire.LogName)
}

// DataDir is inside a lone host's store and holds the Log, to which the engine's own name
// for it is a link: see package fence.
const DataDir = "log"

// Find gives the block directories of the Logs in a store: one, or none. It also finds the
// one whose link has gone.
func Find(store string) ([]string, error) {
	found, err := Glob(store, Dir("", "*"))
	if err != nil {
		return nil, err
	}
	behind := filepath.Join(store, DataDir, "msgs")
	place, err := os.Lstat(filepath.Join(store, DataDir))
	if err != nil || !place.IsDir() {
		return found, nil //nolint:nilerr // it is a node's, or has no fence yet
	}
	data, err := os.Stat(behind)
	if err != nil {
		return found, nil //nolint:nilerr // it is a node's, or has no fence yet
	}
	for _, dir := range found {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, data) {
			return found, nil
		}
	}
	return append(found, behind), nil
}

// Glob is filepath.Glob of a pattern inside dir, in whose own path *, ? and [ mean themselves.
func Glob(dir, pattern string) ([]string, error) {
	found, err := fs.Glob(os.DirFS(dir), filepath.ToSlash(pattern))
	for i, name := range found {
		found[i] = filepath.Join(dir, filepath.FromSlash(name))
	}
	return found, err
}

// List gives the block files of a directory in order. A directory that is not there
// has none.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), engine.BlockSuffix)
		n, err := strconv.ParseUint(name, 10, 32)
		if !ok || err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // in a copy that is read it is a link
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, File{uint32(n), path, info.Size()})
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Index, b.Index) })
	return files, nil
}

// Block is what was found in one block file.
type Block struct {
	File
	First, Last event.Sequence // 0: it holds no record
	Records     uint64
	Gaps        []Range // Sequences that are missing between its records
	Bad         []Stretch
}

// CheckFile reads a whole block file.
func CheckFile(f File) (Block, error) {
	b := Block{File: f}
	bad, err := Walk(f.Path, f.Index, func(_ int64, _ []byte, r Record) error {
		b.add(r.Seq)
		return nil
	})
	b.Bad = bad
	if err != nil {
		err = fmt.Errorf("cannot read the block %s: %w", f.Path, err)
	}
	return b, err
}

func (b *Block) add(seq event.Sequence) {
	switch {
	case b.Records == 0:
		b.First = seq
	case seq <= b.Last:
		return // the engine passes over it too
	case seq > b.Last+1:
		b.Gaps = append(b.Gaps, Range{From: b.Last + 1, To: seq - 1})
	}
	b.Records++
	b.Last = seq
}

// torn reports that the file ends in something that is no record, and with nothing
// behind it.
func (b Block) torn() bool {
	return len(b.Bad) > 0 && b.Bad[len(b.Bad)-1].End >= b.Size
}

// Report is what is known of a store's blocks.
type Report struct {
	First   event.Sequence `json:"first"` // of what can be read; 0: nothing
	Last    event.Sequence `json:"last"`
	Records uint64         `json:"records"`
	Blocks  int            `json:"blocks"`
	Bytes   int64          `json:"bytes"`
	Damage  []Damage       `json:"damage,omitempty"`
	// Torn is the end of the newest block, where it is no record: a crash while it was
	// written, before anybody was told that it is stored, or damage.
	Torn *Damage `json:"torn,omitempty"`
}

// Damage is one run of Sequences that cannot be read.
type Damage struct {
	Range
	File   string `json:"file"` // the block where it should be, or the one behind it
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

func (d Damage) String() string {
	return fmt.Sprintf("position %s (%s, byte %d: %s)", d.Range, filepath.Base(d.File), d.Offset, d.Why)
}

// Join puts the blocks of a store together, in their order. first is the first
// Sequence that it must hold, and last the last one; 0 where that is not known.
func Join(found []Block, first, last event.Sequence) Report {
	rep := Report{Blocks: len(found)}
	due := max(1, first)
	for i, b := range found {
		rep.Bytes += b.Size
		rep.Records += b.Records
		if b.Records == 0 {
			if b.torn() && i == len(found)-1 {
				rep.Torn = &Damage{Range{From: due}, b.Path, b.Bad[0].Off, b.Bad[0].Why}
			}
			continue
		}
		if rep.First == 0 {
			rep.First = b.First
		}
		gaps := b.Gaps
		if b.First > due {
			gaps = append([]Range{{From: due, To: b.First - 1}}, gaps...)
		}
		bad := slices.Clone(b.Bad)
		if b.torn() && i == len(found)-1 {
			end := bad[len(bad)-1]
			rep.Torn = &Damage{Range{From: b.Last + 1}, b.Path, end.Off, end.Why}
			bad = bad[:len(bad)-1]
		}
		for n, g := range gaps {
			d := Damage{Range: g, File: b.Path, Why: "there is no record of it"}
			if s := min(n, len(bad)-1); s >= 0 { // one stretch a gap, as a rule
				d.Offset, d.Why = bad[s].Off, bad[s].Why
			} else if i > 0 && found[i-1].torn() && g.To < b.First {
				end := found[i-1].Bad[len(found[i-1].Bad)-1]
				d.File, d.Offset, d.Why = found[i-1].Path, end.Off, end.Why
			}
			rep.Damage = append(rep.Damage, d)
		}
		due = max(due, b.Last+1)
		rep.Last = b.Last
	}
	if last >= due {
		d := Damage{Range: Range{From: due, To: last}, Why: "there is no record of it"}
		if n := len(found); n > 0 {
			d.File, d.Offset = found[n-1].Path, found[n-1].Size
		}
		if rep.Torn != nil {
			d.File, d.Offset, d.Why = rep.Torn.File, rep.Torn.Offset, rep.Torn.Why
			rep.Torn = nil
		}
		rep.Damage = append(rep.Damage, d)
	}
	return rep
}

// Check reads all blocks of a directory. first and last are as Join has them.
func Check(dir string, first, last event.Sequence) (Report, error) {
	files, err := List(dir)
	if err != nil {
		return Report{}, err
	}
	found := make([]Block, 0, len(files))
	for _, f := range files {
		b, err := CheckFile(f)
		if err != nil {
			return Report{}, err
		}
		found = append(found, b)
	}
	return Join(found, first, last), nil
}
