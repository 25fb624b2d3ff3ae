// Package blocks reads the files in which the engine keeps the Log, without the
// engine: it finds what is damaged there, and where.
//
// # The files
//
// The messages of a stream are in msgs/<n>.blk, in order of n, each of some 8 MB. A
// block is one record after another (nats-server v2.15.3, filestore.go,
// writeMsgRecordLocked), all numbers little endian:
//
//	4  length of the record; its highest bit: there are headers
//	8  Sequence; its two highest bits mark deletions, which a Log has none of
//	8  time, in ns since 1970
//	2  length of the subject
//	n  subject
//	4  length of the headers, where there are any
//	n  headers
//	n  data
//	8  HighwayHash-64 of all but the three lengths, under the SHA-256 of
//	   "<stream>-<n>" as key
//
// So a changed length may leave the hash right: the parts are then cut in the wrong
// places, and are looked at for that.
//
// # What the engine does about damage
//
// While it runs it leaves out a record whose hash is wrong, and says nothing. When it
// starts after a crash it cuts off a block at its first wrong record: all behind it in
// that file is gone. So whoever starts an engine looks before.
package blocks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/minio/highwayhash"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

const (
	headLen   = engine.RecordHead
	sumLen    = engine.SumSize
	leastLen  = headLen + sumLen
	mostLen   = engine.MostRecord
	headerBit = engine.HeaderBit
	deleted   = engine.DeletedBits
)

// Record is one stored message.
type Record struct {
	Seq     event.Sequence
	Time    int64 // ns since 1970
	Subject string
	Header  []byte // as NATS sends it, "NATS/1.0\r\n…\r\n\r\n"; nil: none
	Data    []byte
}

// key is what the hashes of a block are made under.
func key(index uint32) []byte {
	k := sha256.Sum256(fmt.Appendf(nil, "%s-%d", wire.LogName, index))
	return k[:]
}

// newSum gives the hash of a block's records.
func newSum(index uint32) hash.Hash64 {
	h, err := highwayhash.New64(key(index))
	if err != nil {
		panic(err) // only for a key of another length
	}
	return h
}

// lengths are what the hash does not cover.
type lengths struct {
	record, subject, header int // header: -1 without headers
}

// head reads the lengths of the record at the beginning of b; why is not empty where
// there cannot be one.
func head(b []byte) (l lengths, why string) {
	if len(b) < leastLen {
		return l, "a record is cut off"
	}
	n := binary.LittleEndian.Uint32(b)
	l.record, l.subject, l.header = int(n&^headerBit), int(binary.LittleEndian.Uint16(b[20:])), -1
	fixed := leastLen + l.subject
	if n&headerBit != 0 {
		fixed += 4
	}
	switch {
	case l.record > mostLen || l.record < fixed:
		return l, "a record's lengths cannot be"
	case l.record > len(b):
		return l, "a record is cut off"
	}
	if n&headerBit != 0 {
		at := headLen + l.subject
		h := binary.LittleEndian.Uint32(b[at:])
		if uint64(h) > uint64(l.record-fixed) {
			return l, "a record's lengths cannot be"
		}
		l.header = int(h)
	}
	return l, ""
}

// summed is the hash of a record's covered parts.
func summed(h hash.Hash64, b []byte, l lengths) uint64 {
	h.Reset()
	h.Write(b[4:20])
	at := headLen + l.subject
	h.Write(b[headLen:at])
	if l.header >= 0 {
		at += 4
	}
	h.Write(b[at : l.record-sumLen])
	return h.Sum64()
}

// parse reads the record at the beginning of b. Its parts are b's. Where why is not
// empty, the record is damaged.
func parse(h hash.Hash64, b []byte) (r Record, n int, why string) {
	l, why := head(b)
	if why != "" {
		return r, 0, why
	}
	if summed(h, b, l) != binary.LittleEndian.Uint64(b[l.record-sumLen:]) {
		return r, 0, "a record's checksum is wrong"
	}
	r = cut(b, l)
	if r.tombstone() {
		return r, l.record, ""
	}
	return r, l.record, r.misfit()
}

// cut takes a record apart.
func cut(b []byte, l lengths) Record {
	r := Record{
		Seq:  event.Sequence(binary.LittleEndian.Uint64(b[4:])),
		Time: int64(binary.LittleEndian.Uint64(b[12:])),
	}
	at := headLen + l.subject
	r.Subject = string(b[headLen:at])
	if l.header >= 0 {
		at += 4
		r.Header = b[at : at+l.header]
		at += l.header
	}
	r.Data = b[at : l.record-sumLen]
	return r
}

// tombstone reports that a record only says that there was a message: the engine writes
// one where it has cut off the end of its newest block.
func (r Record) tombstone() bool { return uint64(r.Seq)&deleted != 0 }

var (
	headerBegin = []byte("NATS/1.0")
	headerEnd   = []byte("\r\n\r\n")
)

// misfit says what is wrong with how a record is cut into its parts, which the hash
// does not tell. What somebody else wrote to the Log's subjects is taken as it is.
func (r Record) misfit() string {
	const wrong = "the lengths within a record are wrong"
	if r.Seq == 0 || !strings.HasPrefix(r.Subject, wire.Events+".") && !wire.IsGuard(r.Subject) {
		return wrong
	}
	for _, c := range []byte(r.Subject) {
		if c <= ' ' || c == 0x7f {
			return wrong
		}
	}
	if r.Header != nil {
		if !bytes.HasPrefix(r.Header, headerBegin) || bytes.Index(r.Header, headerEnd) != len(r.Header)-len(headerEnd) {
			return wrong
		}
		return ""
	}
	// A guard, and all that it says is JSON.
	if wire.IsGuard(r.Subject) && len(r.Data) > 0 && !json.Valid(r.Data) && strings.ContainsAny(r.Subject+string(r.Data), `{"`) {
		return wrong
	}
	if len(r.Data) == 0 && strings.ContainsAny(r.Subject, `{"`) {
		return wrong
	}
	return ""
}
