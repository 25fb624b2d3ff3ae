package client

import (
	"context"
	"fmt"
	"iter"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// Query yields the events that match f, in order, and ends at the last event that the Log
// held when the query began. On a single host that is linearizable: it sees every event
// whose append had returned, in any process, before the query began. On a cluster it sees
// at least everything that this client has appended or read. With f.Linearizable it
// begins with a Barrier, and is linearizable too; if the leader is cut off from the
// majority, it then waits until ctx ends.
//
// Query yields all events of a batch or none: a batch that is not committed when the
// query begins is after its end.
//
// If a query fails, it yields its error last; the events before the error are correct,
// but not all. A filter that breaks a rule yields an *event.InvalidError.
func (c *Client) Query(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return func(yield func(event.Recorded, error) bool) {
		if err := f.Validate(); err != nil {
			yield(event.Recorded{}, fmt.Errorf("client: query: %w", err))
			return
		}
		position := c.log.Position
		if f.Linearizable {
			position = c.log.Barrier
		}
		end, err := position(ctx)
		if err != nil {
			yield(event.Recorded{}, fmt.Errorf("client: query: %w", err))
			return
		}
		if end == 0 {
			return // an empty Log: a read "until 0" would follow it
		}
		if f.Last > 0 {
			c.queryLast(ctx, f, end, yield)
			return
		}
		if c.read(ctx, f, end, yield) {
			if err := c.log.EndsAt(ctx, end); err != nil {
				yield(event.Recorded{}, err)
			}
		}
	}
}

// Subscribe yields the events that match f after f.After, in order, each once, and
// continues with new events, through reconnects and restarts of the broker. To start with
// the next event, set f.After to Position. f.Limit ends it after that number of events;
// f.Last is not for a subscription. The context or a break ends it; the last error is
// then the context's.
func (c *Client) Subscribe(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return func(yield func(event.Recorded, error) bool) {
		err := f.Validate()
		if err == nil && f.Last > 0 {
			err = &event.InvalidError{Field: "last", Value: fmt.Sprint(f.Last), Rule: "is for queries; a subscription starts after a sequence"}
		}
		if err == nil && f.Linearizable {
			err = &event.InvalidError{Field: "linearizable", Value: "true", Rule: "is for queries; a subscription brings everything in the end"}
		}
		if err != nil {
			yield(event.Recorded{}, fmt.Errorf("client: subscribe: %w", err))
			return
		}
		c.read(ctx, f, 0, yield)
	}
}

// read yields the matching events of (f.After, until]; until 0 means without end. It
// reports whether it read all of them.
func (c *Client) read(ctx context.Context, f event.Filter, until event.Sequence, yield func(event.Recorded, error) bool) (all bool) {
	if until != 0 && f.After >= until {
		return true
	}
	n := 0
	for m, err := range c.log.Feed(ctx, logio.FeedConfig{Subjects: feedSubjects(f), After: f.After, Until: until, NoHeaders: true, Where: whereOf(f)}) {
		if err != nil {
			yield(event.Recorded{}, err)
			return false
		}
		if wire.IsGuard(m.Subject) {
			continue
		}
		r, err := wire.Decode(m.Subject, m.Data, m.Seq)
		if err != nil {
			c.setAside.Add(1)
			c.cfg.Logger.Warn("set aside", "seq", m.Seq, "err", err)
			continue
		}
		if !f.Match(r) {
			continue
		}
		n++
		if n == f.Limit { // after the limit, the feed cannot notice missing events
			if err := c.log.Verify(ctx, m.Copies, f.After, m.Seq); err != nil {
				yield(event.Recorded{}, fmt.Errorf("client: read the Log: %w", err))
				return false
			}
		}
		if !yield(r, nil) || n == f.Limit {
			return false
		}
	}
	return true
}

func whereOf(f event.Filter) logio.Where {
	since, until := f.Bounds()
	return logio.Where{Actor: f.Actor, Correlation: f.CorrelationID, Since: since, Until: until, Limit: f.Limit}
}

// feedSubjects returns the subjects that a filter needs. For all events that is the whole
// Log, whose Sequences show gaps.
func feedSubjects(f event.Filter) []string {
	if len(f.Types) == 0 && f.StreamID == "" {
		return nil
	}
	return wire.FilterSubjects(f)
}

// queryLast reads windows of growing size backwards from the end until it has enough. All
// windows together read each message once.
func (c *Client) queryLast(ctx context.Context, f event.Filter, end event.Sequence, yield func(event.Recorded, error) bool) {
	var newest [][]event.Recorded // one slice a window, the newest window first
	have := 0
	width := event.Sequence(max(256, 4*f.Last))
	for hi := end; hi > f.After && have < f.Last; width *= 4 {
		lo := f.After
		if hi-f.After > width {
			lo = hi - width
		}
		var window []event.Recorded
		part := f
		part.After = lo
		ok := true
		c.read(ctx, part, hi, func(r event.Recorded, err error) bool {
			if err != nil {
				ok = false
				yield(event.Recorded{}, err)
				return false
			}
			window = append(window, r)
			if len(window) > f.Last-have {
				window = window[1:]
			}
			return true
		})
		if !ok {
			return
		}
		newest = append(newest, window)
		have += len(window)
		hi = lo
	}
	if err := c.log.EndsAt(ctx, end); err != nil {
		yield(event.Recorded{}, err)
		return
	}
	for i := len(newest) - 1; i >= 0; i-- {
		for _, r := range newest[i] {
			if !yield(r, nil) {
				return
			}
		}
	}
}
