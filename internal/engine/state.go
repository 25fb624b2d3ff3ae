package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/minio/highwayhash"

	"durablestream/event"
)

// The first two bytes of a StateFile.
const (
	stateMagic      = 11
	stateMinVersion = 1
	stateVersion    = 4
	stateLeast      = 32 // bytes
)

// ErrState is a StateFile that the engine would not use: it is damaged, or of a version
// that it does not read. The engine then reads all blocks at its start and writes the
// file anew, so nothing is lost.
var ErrState = errors.New("the engine's state file cannot be used")

// State is what a StateFile holds. All numbers are uvarints unless stated:
//
//	1  magic      1  version
//	   messages, bytes, first Sequence, its time (varint), last Sequence, its time (varint)
//	   number of subjects; for each: length, bytes, messages, first block, last block (left out
//	   before version 4 where there is one message)
//	   number of blocks; for each: StateBlock
//	   index of the newest block
//	8  checksum of its last record
//	8  HighwayHash-64 of all that, under the SHA-256 of the stream's name as key
type State struct {
	Messages, Bytes uint64
	First, Last     event.Sequence
	Blocks          []StateBlock
	Newest          uint32        // index of the newest block
	Sum             [SumSize]byte // of the last record in it
}

// StateBlock is one block in a State: index, bytes, first Sequence, its time (varint), last
// Sequence, its time (varint), number of deleted Sequences, TTLs (from version 2), schedules
// (from version 3), then, where any Sequence is deleted, the set of them.
type StateBlock struct {
	Index       uint32
	Bytes       uint64
	First, Last event.Sequence
	Deleted     uint64
}

// ReadState decodes the StateFile of a stream. It returns ErrState for a file that the
// engine would not use.
func ReadState(stream string, raw []byte) (State, error) {
	if len(raw) < stateLeast {
		return State{}, ErrState
	}
	body, sum := raw[:len(raw)-SumSize], raw[len(raw)-SumSize:]
	if !bytes.Equal(checksum(stream, body), sum) || body[0] != stateMagic || body[1] < stateMinVersion || body[1] > stateVersion {
		return State{}, ErrState
	}
	r := stateReader{version: body[1], rest: body[2:]}
	s := State{Messages: r.uvarint(), Bytes: r.uvarint(), First: r.sequence()}
	r.varint()
	s.Last = r.sequence()
	r.varint()
	for range r.count() {
		r.subject()
	}
	for range r.count() {
		s.Blocks = append(s.Blocks, r.block())
	}
	s.Newest = uint32(r.uvarint())
	if r.bad || copy(s.Sum[:], r.rest) != SumSize || !s.adds() {
		return State{}, ErrState
	}
	return s, nil
}

// SumOf is what a stream's ConfigSum holds beside a ConfigFile with these bytes.
func SumOf(stream string, config []byte) string { return hex.EncodeToString(checksum(stream, config)) }

// checksum is that of a stream's StateFile and ConfigFile.
func checksum(stream string, b []byte) []byte {
	key := sha256.Sum256([]byte(stream))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	h.Write(b)
	return h.Sum(nil)
}

// adds reports that the totals are those of the blocks, which the engine checks too.
func (s State) adds() bool {
	var messages, size uint64
	var first, last event.Sequence
	for i, b := range s.Blocks {
		n := uint64(b.Last) - uint64(b.First) + 1
		messages += n - min(n, b.Deleted)
		size += b.Bytes
		last = max(last, b.Last)
		if i == 0 || b.First < first {
			first = b.First
		}
	}
	return messages == s.Messages && size == s.Bytes && last == s.Last && (first <= 1 || first == s.First)
}

// stateReader reads one field after another. After bad is set, every field is 0.
type stateReader struct {
	version byte
	rest    []byte
	bad     bool
}

func (r *stateReader) took(n int) bool {
	if r.bad = r.bad || n <= 0 || n > len(r.rest); r.bad {
		return false
	}
	r.rest = r.rest[n:]
	return true
}

func (r *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if !r.took(n) {
		return 0
	}
	return v
}

func (r *stateReader) varint() {
	_, n := binary.Varint(r.rest)
	r.took(n)
}

func (r *stateReader) sequence() event.Sequence { return event.Sequence(r.uvarint()) }

// count reads how many items follow, each of a byte at least.
func (r *stateReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *stateReader) subject() {
	if n := r.count(); n > 0 && r.took(n) {
		total := r.uvarint()
		r.uvarint()
		if total > 1 || r.version >= 4 {
			r.uvarint()
		}
	}
}

func (r *stateReader) block() StateBlock {
	b := StateBlock{Index: uint32(r.uvarint()), Bytes: r.uvarint(), First: r.sequence()}
	r.varint()
	b.Last = r.sequence()
	r.varint()
	b.Deleted = r.uvarint()
	if r.version >= 2 {
		r.uvarint()
	}
	if r.version >= 3 {
		r.uvarint()
	}
	if b.Deleted > 0 {
		r.deleted()
	}
	return b
}

// The set of deleted Sequences: magic, version, number of nodes and of Sequences (4 bytes
// each), then for each node 8 bytes of base, 32 buckets of 8 bytes, 2 bytes of height.
const (
	deletedMagic   = 22
	deletedVersion = 2
	deletedHead    = 2 + 4 + 4
	deletedNode    = 8 + 32*8 + 2
)

func (r *stateReader) deleted() {
	if len(r.rest) < deletedHead || r.rest[0] != deletedMagic || r.rest[1] != deletedVersion {
		r.bad = true
		return
	}
	nodes := uint64(binary.LittleEndian.Uint32(r.rest[2:]))
	if r.took(deletedHead) && nodes > 0 {
		r.took(int(min(nodes*deletedNode, 1<<40)))
	}
}
