package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
)

const (
	// MaxLine is the longest line that is taken, in bytes: an event as large as the
	// Log takes, and what is around it.
	MaxLine = 9 << 20

	// unreadIn is how much input may wait for its turn before no more is read.
	unreadIn = 64 << 20
	// unreadOut is how much output may wait for its reader before subscriptions pause.
	unreadOut = 1 << 20
	// unreadMost is how much output may wait before reads are refused.
	unreadMost = 64 << 20
)

// tooLong stands in the queue for a line over MaxLine. No line that came in can be it,
// since a line holds no newline.
var tooLong = []byte("\n")

// readLines puts the lines of r into q until r ends. What follows the last newline is
// a line too: a writer that was cut off makes one that is no JSON, and is refused.
func readLines(ctx context.Context, r io.Reader, q *queue) error {
	defer q.end()
	in := bufio.NewReaderSize(r, 1<<16)
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if !long {
			line = append(line, bytes.TrimSuffix(part, []byte("\n"))...)
			if long = len(line) > MaxLine; long {
				line = nil
			}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		switch {
		case long:
			q.put(tooLong)
		case len(bytes.TrimSpace(line)) > 0:
			q.put(line)
		}
		line, long = nil, false
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !q.room(ctx, unreadIn) {
			return ctx.Err()
		}
	}
}

// writeLines writes the lines of q to w until q ends. When w takes no more, the rest is
// forgotten, so that nothing waits for a reader that has gone.
func writeLines(w io.Writer, q *queue) {
	for {
		line, ok := q.take(context.Background())
		if !ok {
			return
		}
		if _, err := w.Write(line); err != nil {
			q.drop()
			return
		}
	}
}
