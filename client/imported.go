package client

import (
	"context"
	"slices"
	"sync"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// importBatch is the most messages in one batch of an import: the default limit of any
// server.
const importBatch = 1000

// imports knows the positions of imports in the Log.
//
// The mark "imported" keeps the sweeper away from a checkpoint or an intent, and lets an
// import decide it. Any key that may append can write the mark into an event by hand.
// Folds therefore believe it only where an import can have written it: within a batch's
// length after the guard of an import, which takes an operator's key, or after the guard
// that a restore wrote in its place.
type imports struct {
	log *logio.Log

	mu   sync.Mutex // guards all below
	at   []event.Sequence
	upTo event.Sequence // everything up to there has been read
}

// vouched reports whether an import can have written the event at seq. On a read error it
// returns true: an error of a reader must not make anything stored overdue.
func (i *imports) vouched(ctx context.Context, seq event.Sequence) bool {
	from := event.Sequence(1)
	if seq > importBatch {
		from = seq - importBatch
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if seq > i.upTo {
		position, err := i.log.Position(ctx)
		if err != nil {
			return true
		}
		position = max(position, seq)
		subjects := []string{wire.GuardFilter(event.GuardImport), wire.GuardFilter(event.GuardVoid)}
		for m, err := range i.log.Feed(ctx, logio.FeedConfig{Subjects: subjects, After: i.upTo, Until: position, NoHeaders: true}) {
			if err != nil {
				return true
			}
			if len(i.at) == 0 || i.at[len(i.at)-1] < m.Seq { // otherwise a failed read already added it
				i.at = append(i.at, m.Seq)
			}
		}
		if ctx.Err() != nil {
			return true
		}
		i.upTo = position
	}
	if n, _ := slices.BinarySearch(i.at, from); n < len(i.at) && i.at[n] < seq {
		return true
	}
	info, err := i.log.Info(ctx)
	return err != nil || event.Sequence(info.State.FirstSeq) > from // everything before it is gone
}

// believe removes the mark from an event that no import can have written.
func (i *imports) believe(ctx context.Context, r *event.Recorded) {
	if r != nil && r.Imported && !i.vouched(ctx, r.Seq) {
		r.Imported = false
	}
}
