package engine

import "crypto/sha256"

// The files of a raft group. Package meta describes what they hold.
const (
	PeersFile    = "peers.idx"
	TermFile     = "tav.idx"
	SnapshotsDir = "snapshots"
	SnapshotName = "snap.%d.%d" // term, index

	// NodeIDSize is the size of a node's id in raft groups.
	NodeIDSize = 8
	// EntryNormal is the type of a raft entry that holds an operation.
	EntryNormal = 0
)

// The operations of the meta group's entries that are about streams.
const (
	OpAssignStream = 0
	OpRemoveStream = 2
	OpUpdateStream = 11
)

// NodeID is what the raft groups call the server of a name.
func NodeID(server string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(server))
	id := make([]byte, NodeIDSize)
	for i := range id {
		id[i] = digits[int(sum[i])%len(digits)]
	}
	return string(id)
}
