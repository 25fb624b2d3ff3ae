package engine

import (
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
)

// The names in a store directory:
//
//	<store>/jetstream/<account>/streams/<stream>/meta.inf   configuration, JSON
//	                                            /meta.sum   its checksum
//	                                            /msgs/<n>.blk   blocks of messages
//	                                            /msgs/index.db  State
//	                                            /obs/           consumers
//	<store>/jetstream/$SYS/_js_/_meta_/         raft group of a cluster's nodes
//	<store>/jetstream/$SYS/_js_/S-R3F-<id>/     raft group of a stream
const (
	StoreDir    = "jetstream" // inside the configured store directory
	StreamsDir  = "streams"
	MessagesDir = "msgs"
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

// Error codes that the program branches on. The names are those of the conditions, not
// of nats-server's own errors.
const (
	CodeDiskFull          jetstream.ErrorCode = 10002 // the account's storage limit
	CodeNoPeers           jetstream.ErrorCode = 10005 // too few nodes for the replicas
	CodeNoResources       jetstream.ErrorCode = 10023
	CodeMaxConsumers      jetstream.ErrorCode = 10026 // MostConsumers
	CodeStorageFull       jetstream.ErrorCode = 10047
	CodeTooLarge          jetstream.ErrorCode = 10054
	CodeWrongLast         jetstream.ErrorCode = 10071
	CodeStoreFailed       jetstream.ErrorCode = 10077 // storing failed, or the record is too large
	CodeDuplicateInFlight jetstream.ErrorCode = 10158
	CodeWrongLastInFlight jetstream.ErrorCode = 10164
	CodeTooManyWaiting    jetstream.ErrorCode = 10167 // MostWaiting or MostWaitingBytes
	CodeBatchIncomplete   jetstream.ErrorCode = 10176
	CodeBatchTooLarge     jetstream.ErrorCode = 10199
	CodeBatchDuplicate    jetstream.ErrorCode = 10201
	CodeBatchInFlight     jetstream.ErrorCode = 10210
)
