package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
)

// Place is where in a node's store a record is.
type Place struct {
	Path   string
	Off    int64
	Length int
	Record blocks.Record
}

var errFound = errors.New("found")

// Blocks is the directory of a node's blocks.
func (n *Node) Blocks() (string, error) {
	dirs, err := blocks.Find(filepath.Join(n.Dir, durablestream.HostDir, broker.StoreDir))
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("faults: %s has %d logs in its store", n.Name, len(dirs))
	}
	if err != nil {
		return "", err
	}
	return dirs[0], nil
}

// Find finds the record of a Sequence in a node's store.
func (n *Node) Find(seq event.Sequence) (p Place, err error) {
	dir, err := n.Blocks()
	if err != nil {
		return p, err
	}
	files, err := blocks.List(dir)
	for _, f := range files {
		_, err = blocks.Walk(f.Path, f.Index, func(off int64, raw []byte, r blocks.Record) error {
			if r.Seq != seq {
				return nil
			}
			p = Place{f.Path, off, len(raw), r}
			return errFound
		})
		if errors.Is(err, errFound) {
			return p, nil
		}
	}
	return p, fmt.Errorf("faults: %s has no record of %d: %w", n.Name, seq, err)
}

// Flip changes one byte of a stored record, at of its bytes from its beginning.
func (p Place) Flip(at int) error {
	f, err := os.OpenFile(p.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], p.Off+int64(at))
	if err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], p.Off+int64(at))
	}
	return errors.Join(err, f.Close())
}

// Cut cuts the block off within the record.
func (p Place) Cut() error { return os.Truncate(p.Path, p.Off+int64(p.Length/2)) }
