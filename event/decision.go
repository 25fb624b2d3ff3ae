package event

import "slices"

var (
	decisions  = []string{CheckpointApproved, CheckpointRejected, CheckpointExpired, CheckpointCancelled}
	intentEnds = []string{AgentCompleted, AgentFailed, AgentAborted}
)

// Decisions are the types of event that decide a checkpoint.
func Decisions() []string { return slices.Clone(decisions) }

// IsDecision reports whether events of a type decide a checkpoint.
func IsDecision(typ string) bool { return slices.Contains(decisions, typ) }

// IntentEnds are the types of event that end an intent.
func IntentEnds() []string { return slices.Clone(intentEnds) }

// EndsIntent reports whether events of a type end an intent.
func EndsIntent(typ string) bool { return slices.Contains(intentEnds, typ) }
