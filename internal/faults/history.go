// Package faults breaks real systems of ours, a host with its stand-by or a cluster of
// three, while clients use them, and holds what the clients were told against what
// the log, the mirrors and the subscribers have when all is mended.
//
// Everything acknowledged must be there, once, where its acknowledgement says, in an
// order that fits real time; what was refused as not stored must not be; what has no
// known outcome may be either. Decisions, claims and guards must be explained by some
// order of the operations (porcupine). The checks are checked: control_test.go holds
// runs in which they must object.
package faults

import (
	"slices"
	"strings"
	"sync"
	"time"

	"durablestream/event"
)

// Kind is what a client did.
type Kind string

// The kinds of operations.
const (
	Append  Kind = "append"  // one event
	Batch   Kind = "batch"   // several, all or none
	Guarded Kind = "guarded" // a compare-and-set on a guard of the workload's own
	Look    Kind = "look"    // a linearizable read of such a guard
	Decide  Kind = "decide"  // the decision of a checkpoint
	Claim   Kind = "claim"   // the claim of an intent
	Query   Kind = "query"   // a linearizable query of a shared stream
)

// Outcome is what its caller was told.
type Outcome string

// The outcomes.
const (
	Done     Outcome = "done"     // acknowledged, or answered
	Lost     Outcome = "lost"     // somebody else was first, and Op.Seen says who
	Refused  Outcome = "refused"  // an error that promises that nothing was stored
	Unknown  Outcome = "unknown"  // stored or not
	NoAnswer Outcome = "noanswer" // a read that did not end: it says nothing
)

// Op is one operation of one client. Times are since the run began, by one clock.
type Op struct {
	Client       int
	Kind         Kind
	Key          string   // the stream, guard, checkpoint or intent
	IDs          []string // of the events, in order
	Expected     event.Sequence
	Call, Return time.Duration
	Outcome      Outcome
	Seqs         []event.Sequence // of the events, where done; of the guard for Guarded, Claim and Look
	Seen         string           // Lost: the id or the holder that won
	SeenSeq      event.Sequence   // Lost on a guard: its last Sequence
	Got          []string         // Query: the ids that it brought
	Err          string
}

// History is what all clients did.
type History struct {
	begun time.Time

	mu  sync.Mutex // guards ops and last
	ops []Op
	ack time.Duration // the last acknowledgement
}

// NewHistory begins now.
func NewHistory() *History { return &History{begun: time.Now()} }

// Now is the time since the run began.
func (h *History) Now() time.Duration { return time.Since(h.begun) }

// Add takes in an operation that has returned.
func (h *History) Add(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	if op.Outcome == Done && len(op.Seqs) > 0 && op.Kind != Look {
		h.ack = max(h.ack, op.Return)
	}
}

// Ops are the operations so far.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ops[:len(h.ops):len(h.ops)]
}

// LastAck is when something was acknowledged last.
func (h *History) LastAck() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ack
}

// errors are the last ones that callers were told.
func (h *History) errors(n int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last []string
	for _, op := range slices.Backward(h.ops) {
		if op.Err != "" && op.Outcome != Lost {
			last = append(last, op.Err)
		}
		if len(last) == n {
			break
		}
	}
	return strings.Join(last, "\n")
}
