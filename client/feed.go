package client

import (
	"context"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/logio"
)

// FeedConfig selects the stored messages of a feed.
type FeedConfig struct {
	// Subjects must not overlap. Default: the whole Log, events and guards.
	Subjects []string
	// After is the position before the first message.
	After event.Sequence
	// Until ends the feed at that position. 0: it follows the Log without end.
	Until event.Sequence
	// HeadersOnly leaves out the bodies.
	HeadersOnly bool
	// NoHeaders lets a feed leave out the headers if that is faster.
	NoHeaders bool
}

// Message is one stored message, unparsed.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	Seq     event.Sequence
	Stored  time.Time // the server's clock
	// Pending is the number of matching messages after this one when it was sent; 0:
	// caught up. A message that the host found in its index has 1, since the host does
	// not know the number.
	Pending uint64
}

// Feed yields stored messages in the order of the Log, each once, without gaps. It
// continues through reconnects and restarts: it knows its position, and creates its
// consumer again from there. If the server admits no more readers, it waits. The context
// or a break ends it; its last error is then the context's. A *DamageError ends it if the
// Log has lost a message that it would yield or may have yielded; on a cluster only if no
// replica that it tries is whole.
//
// Calls may overlap. Each range over a result is a feed of its own that begins at After,
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
