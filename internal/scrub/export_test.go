package scrub

import (
	"context"

	"durablestream/internal/blocks"
)

// Find makes the round that a reader asks for, over a store of which nothing is known yet.
func Find(ctx context.Context, store Store, bounds func() (Bounds, error)) (blocks.Report, error) {
	s := &Scrub{Store: store, b: Broker{Bounds: bounds}, known: map[uint32]*scrubbed{}}
	s.state.Store(&State{})
	return s.find(ctx, true)
}
