package client

import (
	"context"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/logio"
)

// FeedConfig says which stored messages a feed brings.
type FeedConfig struct {
	// Subjects must not overlap. Default: the whole Log, events and guards.
	Subjects []string
	// After is the position before the first message wanted.
	After event.Sequence
	// Until ends the feed at that position. 0: it follows the Log for ever.
	Until event.Sequence
	// HeadersOnly leaves the bodies out.
	HeadersOnly bool
	// NoHeaders lets a feed leave the headers out, where that is faster.
	NoHeaders bool
}

// Message is one stored message as it is.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	Seq     event.Sequence
	Stored  time.Time // the server's clock
	// Pending is how many more matched when this one was sent; 0: caught up. One that
	// the host has found by its index has 1: how many there are it does not know.
	Pending uint64
}

// Feed brings stored messages in the order of the Log, each once, without gaps.
// It goes on through reconnects and restarts: it always knows its position, and
// makes its consumer anew from there. Where the server admits no more readers it waits.
// The context or a break ends it; its last error is the context's. A *DamageError ends it
// where the Log has lost something that it would bring, or that it may have brought; on a
// cluster only if no replica that it tries is whole.
//
// Calls may overlap, and each range over a result is a feed of its own that begins at After,
// with its own consumer on the server.
func (c *Client) Feed(ctx context.Context, cfg FeedConfig) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for m, err := range c.log.Feed(ctx, logio.FeedConfig{
			Subjects: cfg.Subjects, After: cfg.After, Until: cfg.Until, HeadersOnly: cfg.HeadersOnly, NoHeaders: cfg.NoHeaders,
		}) {
			if !yield(Message{m.Subject, m.Header, m.Data, m.Seq, m.Stored, m.Pending}, err) {
				return
			}
		}
	}
}
