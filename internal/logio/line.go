package logio

import "context"

// line bounds how many requests of a client its server has to deal with at a time. The
// engine drops all that wait when there are 10,000 (of all clients), without an answer; and
// a request that waits here does not run out of its attempt's time.
type line chan struct{}

const (
	apiAtOnce  = 256 // requests to the engine
	findAtOnce = 32  // questions to a host's index, each of some milliseconds
)

// inLine marks the context of a request that has its place: what it asks on the way needs
// no other one, and would wait for itself.
type inLine struct{}

// enter waits for a place until ctx ends. What is asked with the context that it returns
// has its place until leave.
func (l line) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	if ctx.Value(inLine{}) != nil {
		return ctx, func() {}, nil
	}
	select {
	case l <- struct{}{}:
		return context.WithValue(ctx, inLine{}, true), func() { <-l }, nil
	case <-ctx.Done():
		return ctx, func() {}, ctx.Err()
	}
}
