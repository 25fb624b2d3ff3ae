package logio

import "context"

// places bounds how many requests of one Log the server processes at a time. The engine
// silently drops all waiting requests when there are 10,000, of all clients. A request
// that waits here does not use up the time of its attempt.
type places chan struct{}

const (
	apiAtOnce  = 256 // requests to the engine
	findAtOnce = 32  // requests to a host's index, each of some milliseconds
)

// hasPlace marks the context of a request that has its place: its nested requests need no
// place of their own, and would wait for themselves.
type hasPlace struct{}

// enter waits for a place until ctx ends. Requests with the context that it returns have
// its place until leave.
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
