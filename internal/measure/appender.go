package measure

import (
	"context"

	"durablestream/client"
	"durablestream/event"
)

// Appender is an Op: it appends one event and waits until it is durable.
func Appender(c *client.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.Append(ctx, Event())
		return err
	}
}

// BatchAppender is an Op: it appends n events in one batch.
func BatchAppender(c *client.Client, n int) func(context.Context) error {
	return func(ctx context.Context) error {
		all := make([]event.Event, n)
		for i := range all {
			all[i] = Event()
		}
		_, err := c.AppendBatch(ctx, all)
		return err
	}
}
