// Package wait lets time pass between two attempts, and ends with a context.
package wait

import (
	"context"
	"time"
)

// For returns nil when d has passed. If ctx ends first, or has ended already, For returns
// the context's error at once.
func For(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Backoff is the pause between the attempts of one caller: each is twice as long as the
// one before, up to Most. The zero value is ready for use.
type Backoff struct {
	First time.Duration // the first pause. Default: 2 ms
	Most  time.Duration // the longest pause. Default: 250 ms

	last time.Duration
}

// Wait waits for the next attempt, as For does.
func (b *Backoff) Wait(ctx context.Context) error {
	first, most := b.First, b.Most
	if first == 0 {
		first = 2 * time.Millisecond
	}
	if most == 0 {
		most = 250 * time.Millisecond
	}
	b.last = min(max(2*b.last, first), most)
	return For(ctx, b.last)
}

// Reset makes the next pause the first again: an attempt has succeeded, or earlier
// failures mean nothing for the next one.
func (b *Backoff) Reset() { b.last = 0 }
