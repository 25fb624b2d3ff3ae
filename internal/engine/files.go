package engine

import (
	"crypto/sha256"
	"path/filepath"
)

// The names in a store directory:
//
//	<store>/jetstream/<account>/streams/<stream>/meta.inf   configuration, JSON
//	                                            /meta.sum   its checksum
//	                                            /msgs/<n>.blk   blocks of messages
//	                                            /msgs/index.db  State
//	                                            /obs/           consumers
//	                                            /batches/       batches without a commit
//	<store>/jetstream/$SYS/_js_/_meta_/         raft group of a cluster's nodes
//	<store>/jetstream/$SYS/_js_/S-R3F-<id>/     raft group of a stream
const (
	StoreDir    = "jetstream" // inside the configured store directory
	StreamsDir  = "streams"
	MessagesDir = "msgs"
	BatchesDir  = "batches" // members of batches that are not committed
	ConsumerDir = "obs"
	RaftDir     = "_js_" // inside the system account's directory
	MetaGroup   = "_meta_"
	StreamGroup = "S-" // how the name of a stream's raft group begins

	// StateFile holds a stream's state beside its blocks: see State.
	StateFile = "index.db"
	// ConfigFile holds a stream's configuration, and ConfigSum its checksum.
	ConfigFile = "meta.inf"
	ConfigSum  = "meta.sum"
	// BlockSuffix follows the decimal index of a block.
	BlockSuffix = ".blk"
)

// MessagesPath is the directory of the blocks of a stream in an account.
func MessagesPath(store, account, stream string) string {
	return filepath.Join(store, StoreDir, account, StreamsDir, stream, MessagesDir)
}

// BatchDir is the name, inside BatchesDir, of the directory of the batch with an id.
func BatchDir(id string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(id))
	name := sum[:8]
	for i, c := range name {
		name[i] = digits[int(c)%len(digits)]
	}
	return string(name)
}

// The parts of a block. Package blocks describes a whole record.
const (
	// RecordHead is how many bytes come before a record's subject: 4 of length, 8 of
	// Sequence, 8 of time, 2 of the subject's length.
	RecordHead = 22
	// SumSize is the size of every checksum: HighwayHash-64.
	SumSize = 8
	// MostRecord is the size from which the engine takes a record's length as damage. It
	// refuses a message that would reach it with 10077.
	MostRecord = 32 << 20
	// HeaderBit is set in the length of a record that has headers.
	HeaderBit = 1 << 31
	// DeletedBits are set in the Sequence of a record that marks a deletion.
	DeletedBits = 3 << 62
	// BlockSize is the size at which the engine begins a new block.
	BlockSize = 8 << 20
)

// Compressed is how a block begins that the engine compressed once it was full, which it
// does in a stream with S2 compression. The uncompressed size follows as a uvarint, then
// an S2 stream of all but the last checksum, then that checksum.
func Compressed() []byte { return []byte{'c', 'm', 'p', 1} }
