// Package projection folds events and guards into state: which checkpoints wait
// for a human, which intents are unfinished, which sessions are open, what caused
// what. The folds are pure: the same entries in the same order give the same
// state, whoever folds them and whenever.
package projection

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"durablestream/event"
)

// Entry is one stored message: an event or a guard. One with neither only says
// that everything up to Seq has been read.
type Entry struct {
	Seq    event.Sequence
	Stored time.Time // the server's clock
	Event  *event.Recorded
	Guard  *Guard
}

// The kinds and states of guards that folds look at.
const (
	KindRequest    = "request"
	KindCheckpoint = "checkpoint"
	KindIntent     = "intent"

	StateCreated  = "created"
	StateClaimed  = "claimed"
	StateReleased = "released"
	StateEnded    = "ended"
)

// Guard is what a guard message says.
type Guard struct {
	Kind, ID string
	Event    string        // the id of the event that it was written with, if any
	State    string        // of an intent
	Holder   string        // of a claim
	Lease    time.Duration // of a claim; 0: it does not run out, and anybody may take over
}

// Needs says which messages a fold reads. It reads nothing else, so that how long
// it takes does not depend on what else is in the Log.
type Needs struct {
	Types  []string // patterns of event types
	Guards []string // kinds of guards
}

// Fold is a state that entries are applied to, one by one and in order. Apply
// returns an error for an entry that it cannot read; its state is then as before.
type Fold interface {
	Needs() Needs
	Apply(Entry) error
}

// Aside is an entry that a fold could not read.
type Aside struct {
	Seq    event.Sequence `json:"seq"`
	Reason string         `json:"reason"`
}

// Runner feeds folds, and lets others read them meanwhile. The zero value with
// Folds set is ready.
type Runner struct {
	Folds []Fold

	mu      sync.Mutex // guards the folds' states and all below
	applied event.Sequence
	aside   []Aside
	read    int
	moved   chan struct{} // closed and made anew when applied moves
}

// Run applies the entries of source until it ends or fails. What a fold cannot
// read is kept aside with its reason, and never stops the rest.
func (r *Runner) Run(source iter.Seq2[Entry, error]) error {
	for e, err := range source {
		if err != nil {
			return err
		}
		r.apply(e)
	}
	return nil
}

func (r *Runner) apply(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Event != nil || e.Guard != nil {
		r.read++
		for _, f := range r.Folds {
			if err := f.Apply(e); err != nil {
				r.aside = append(r.aside, Aside{e.Seq, err.Error()})
			}
		}
	}
	r.applied = max(r.applied, e.Seq)
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// View calls f while no entry is applied. f must not keep what it sees.
func (r *Runner) View(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Applied is the last Sequence that has been applied, and how many entries.
func (r *Runner) Applied() (event.Sequence, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied, r.read
}

// Aside lists what could not be read.
func (r *Runner) Aside() []Aside {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Aside(nil), r.aside...)
}

// Changed gives a channel that is closed when the next entry has been applied.
func (r *Runner) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved == nil {
		r.moved = make(chan struct{})
	}
	return r.moved
}

// Wait waits until the folds have applied seq: whoever then reads sees at least
// what was recorded up to there. While a source follows the Log, seq must be of an
// entry that the folds need, such as one's own decision: nothing else moves them.
func (r *Runner) Wait(ctx context.Context, seq event.Sequence) error {
	for {
		r.mu.Lock()
		if r.applied >= seq {
			r.mu.Unlock()
			return nil
		}
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("projection: wait for sequence %d: %w", seq, ctx.Err())
		case <-moved:
		}
	}
}

// Merge gives the needs of several folds together.
func Merge(folds ...Fold) Needs {
	var out Needs
	for _, f := range folds {
		n := f.Needs()
		out.Types = append(out.Types, n.Types...)
		out.Guards = append(out.Guards, n.Guards...)
	}
	return out
}
