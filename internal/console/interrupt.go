package console

import (
	"context"
	"io"
)

// interruptible gives up a read that waits for a person when ctx ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buf := make([]byte, len(p)) // its own: the read may end after we have gone
	go func() {
		n, err := r.r.Read(buf)
		done <- result{n, err}
	}()
	select {
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	case got := <-done:
		return copy(p, buf[:got.n]), got.err
	}
}

// Interruptible gives up a read of r that waits for a person when ctx ends.
func Interruptible(ctx context.Context, r io.Reader) io.Reader { return interruptible{ctx, r} }
