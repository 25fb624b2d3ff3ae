package engine

import "time"

// What the engine allows where its configuration says nothing else.
const (
	// MostConsumers is how many consumers a stream without a limit of its own admits. One
	// more is refused with CodeMaxConsumers.
	MostConsumers = 1000
	// MostWaiting and MostWaitingBytes bound what waits to enter a stream. What comes on
	// top is refused with CodeTooManyWaiting.
	MostWaiting      = 100_000
	MostWaitingBytes = 128 << 20
	// BatchSize is the most messages in an atomic batch, BatchesPerStream and BatchesTotal
	// the most batches without a commit. Beyond: CodeBatchTooLarge, CodeBatchInFlight.
	BatchSize        = 1000
	BatchesPerStream = 50
	BatchesTotal     = 1000
	// BatchTimeout is how long the engine keeps a batch without a commit.
	BatchTimeout = 10 * time.Second
	// MostRequests is how many API requests wait before the engine drops all that wait.
	MostRequests = 10_000
	// MostPulls is how many pull requests of a consumer wait.
	MostPulls = 512
	// MostUnacknowledged is how many messages a consumer with explicit acknowledgement
	// delivers ahead.
	MostUnacknowledged = 1000
	// MostPending is how many bytes wait for one client before the engine cuts it off.
	MostPending = 64 << 20
	// MostControlLine is the size of a subject and its reply together.
	MostControlLine = 4 << 10
	// MostName, MostDescription and MostMetadata are bytes of a stream's configuration.
	MostName        = 255
	MostDescription = 4 << 10
	MostMetadata    = 128 << 10
	// MostMultiLast is how many messages one direct get of several subjects returns.
	MostMultiLast = 1024
)

// The engine's timers. No option sets them, apart from SyncInterval.
const (
	// SyncInterval is how often the engine syncs what it does not sync at once, and how
	// often it saves its State.
	SyncInterval = 2 * time.Minute
	// A node of a cluster that has not heard a leader for ElectionMin to ElectionMax asks
	// for votes. A leader speaks each Heartbeat, and gives up after LostQuorum without a
	// majority.
	ElectionMin = 4 * time.Second
	ElectionMax = 9 * time.Second
	Heartbeat   = time.Second
	LostQuorum  = 10 * time.Second
	// OrphanAfter is how long after its start a node of a cluster deletes a stream that its
	// meta group does not list.
	OrphanAfter = 30 * time.Second
)
