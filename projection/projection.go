// Package projection folds events and guards into state: the checkpoints that wait for a
// human, the unfinished intents, the open sessions, and the causes of events. The folds
// are pure: the same entries in the same order give the same state, in every process and
// at any time.
package projection

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"durablestream/event"
)

// Entry is one stored message: an event or a guard. An Entry with neither reports that
// its source has read all messages up to Seq.
type Entry struct {
	Seq    event.Sequence
	Stored time.Time // the server's clock
	Event  *event.Recorded
	Guard  *Guard
}

// Guard is the content of a guard message.
type Guard struct {
	Kind, ID string
	Event    string        // the id of the event that it was written with, if any
	State    string        // of an intent
	Holder   string        // of a claim
	Lease    time.Duration // of a claim; 0: it does not run out, and anybody may take over
}

// Needs lists the messages that a fold reads. The fold reads no others, so its run time
// does not depend on the other messages in the Log.
type Needs struct {
	Types  []string // patterns of event types
	Guards []string // kinds of guards
}

// Fold is a state to which a Runner applies entries, one by one and in order. Apply
// returns an error for an entry that it cannot read, and then leaves the state unchanged.
type Fold interface {
	Needs() Needs
	Apply(Entry) error
}

// Aside is an entry that a fold could not read.
type Aside struct {
	Seq    event.Sequence `json:"seq"`
	Reason string         `json:"reason"`
}

// Runner feeds folds while other goroutines read them. The zero value with Folds set is
// ready.
type Runner struct {
	Folds []Fold

	mu      sync.Mutex // guards the folds' states and all below
	applied event.Sequence
	aside   []Aside
	read    int
	moved   chan struct{} // closed and made anew when applied moves
}

// Run applies the entries of source until source ends or fails. If a fold cannot read an
// entry, Run sets the entry aside with the reason, and continues.
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

// View calls f while no entry is being applied. f must not keep references to the folds'
// state.
func (r *Runner) View(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Applied returns the last applied Sequence and the number of applied entries.
func (r *Runner) Applied() (event.Sequence, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied, r.read
}

// Aside lists the entries that a fold could not read.
func (r *Runner) Aside() []Aside {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Aside(nil), r.aside...)
}

// Changed returns a channel that is closed when the next entry has been applied.
func (r *Runner) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved == nil {
		r.moved = make(chan struct{})
	}
	return r.moved
}

// Wait waits until the folds have applied seq. A reader then sees at least all entries up
// to seq. While a source follows the Log, seq must be the Sequence of an entry that the
// folds need, such as the caller's own decision: other messages do not advance the folds.
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

// Merge returns the combined needs of several folds.
func Merge(folds ...Fold) Needs {
	var out Needs
	for _, f := range folds {
		n := f.Needs()
		out.Types = append(out.Types, n.Types...)
		out.Guards = append(out.Guards, n.Guards...)
	}
	return out
}
