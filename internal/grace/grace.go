// Package grace keeps a deadline from ending what has already cost more than it.
package grace

import (
	"context"
	"errors"
	"time"
)

// Context gives a context that ends when ctx is canceled, and, where ctx has a deadline,
// at that deadline, but not before least has passed. So a step that must follow a long one
// still has its time.
func Context(ctx context.Context, least time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	graced, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(time.Until(deadline), least))
	stop := context.AfterFunc(ctx, func() {
		if Canceled(ctx) {
			cancel()
		}
	})
	return graced, func() { stop(); cancel() }
}

// Canceled reports that ctx was ended by somebody, and not by its deadline.
func Canceled(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}
