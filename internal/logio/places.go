package logio

import "context"

// places bounds how many requests the server has to deal with for one Log at a time. The
// engine drops all waiting requests when there are 10,000, of all clients, without an answer;
// and a request that waits here does not use up the time of its try.
type places chan struct{}

const (
	apiAtOnce  = 256 // requests to the engine
	findAtOnce = 32  // questions to a host's index, each of some milliseconds
)

// hasPlace marks the context of a request that has its place: what it asks on the way needs
// no other one, and would wait for itself.
type hasPlace struct{}

// enter waits for a place until ctx ends. What is asked with the context that it returns
// has its place until leave.
func (p places) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	if ctx.Value(hasPlace{}) != nil {
		return ctx, func() {}, nil
	}
	select {
	case p <- struct{}{}:
		return context.WithValue(ctx, hasPlace{}, true), func() { <-p }, nil
	case <-ctx.Done():
		return ctx, func() {}, ctx.Err()
	}
}
