package logio

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the wait between two attempts: longer each time, up to a quarter of a
// second.
type backoff struct{ next time.Duration }

// sleep waits for the next attempt. It reports whether there is one: false if ctx has
// ended.
func (b *backoff) sleep(ctx context.Context) bool {
	const first, most = 2 * time.Millisecond, 250 * time.Millisecond
	b.next = min(max(b.next*2, first), most)
	return sleep(ctx, b.next) == nil
}

// busyFor waits as long as a busy host asks for, and up to as long again, so that not all
// callers return at once.
func busyFor(ctx context.Context, d time.Duration) error { return sleep(ctx, d+rand.N(d)) }

// sleep waits until d has passed, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
