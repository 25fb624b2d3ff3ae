package mirror

import (
	"bytes"
	"context"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// stalePatience is how long a Log that seems to end before the mirror is asked
// again where it has replicas: an old leader that was cut off answers for up to
// 27 s from its past (ENGINE-FACTS). With one replica the answer is exact.
const stalePatience = 30 * time.Second

// check compares the ends with the Log, and returns the Log's state.
func (e ends) check(ctx context.Context, c *client.Client) (client.State, error) {
	if e.newest == nil {
		return c.State(ctx)
	}
	st, err := reached(ctx, c, e.newest.File, e.newest.Recorded.Seq)
	if err == nil {
		err = compare(ctx, c, st, *e.newest)
	}
	if err == nil && e.oldest.Recorded.Seq != e.newest.Recorded.Seq {
		err = compare(ctx, c, st, *e.oldest)
	}
	return st, err
}

// reached gives the state of a Log that ends at seq or later; an *AheadError that
// names file if it does not.
func reached(ctx context.Context, c *client.Client, file string, seq event.Sequence) (client.State, error) {
	wait := time.NewTicker(250 * time.Millisecond)
	defer wait.Stop()
	for begun := time.Now(); ; {
		st, err := c.State(ctx)
		if err != nil {
			return st, err
		}
		if st.Messages > 0 && st.Last >= seq {
			return st, nil
		}
		if st.Config.Replicas <= 1 || time.Since(begun) > stalePatience {
			if st.Messages == 0 {
				st.Last = 0
			}
			return st, &AheadError{file, seq, st.Last}
		}
		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-wait.C:
		}
	}
}

// compare looks whether the Log, which ends at st.Last or later, holds at the
// line's seq what the line says.
func compare(ctx context.Context, c *client.Client, st client.State, l Line) error {
	seq := l.Recorded.Seq
	for m, err := range c.Feed(ctx, client.FeedConfig{After: seq - 1, Until: st.Last}) {
		switch {
		case err != nil:
			return err
		case m.Seq == seq && !wire.IsGuard(m.Subject) && bytes.Equal(trimBody(m.Data), l.Body):
			return nil
		case m.Seq == seq || seq < begin(st):
			return &ForeignError{l.File, seq}
		}
		return &GapError{After: seq - 1, Next: m.Seq}
	}
	return &GapError{After: seq - 1}
}

// begin is the first Sequence that a Log can hold: 1, unless it was made for a
// restore whose files begin later. What lies between begin and the first message
// was lost, since a Log deletes nothing.
func begin(st client.State) event.Sequence {
	return max(1, event.Sequence(st.Config.FirstSeq))
}
