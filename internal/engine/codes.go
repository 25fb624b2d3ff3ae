package engine

import "github.com/nats-io/nats.go/jetstream"

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
