package event

// The kinds of guards.
const (
	GuardRequest    = "request"    // a checkpoint was asked for
	GuardCheckpoint = "checkpoint" // a checkpoint was decided
	GuardIntent     = "intent"     // an intent's state; its last message counts
	GuardImport     = "import"     // one importer at a time
	GuardBarrier    = "barrier"    // a linearizable read
	GuardUser       = "user"       // a caller's own
	GuardVoid       = "void"       // fills a Sequence that held nothing to restore
)

// The states that a guard of kind GuardIntent gives to its intent.
const (
	StateCreated  = "created"
	StateClaimed  = "claimed"
	StateReleased = "released"
	StateEnded    = "ended"
)
