package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// stalePatience is how long check asks a replicated Log again while it seems to end
// before the mirror does: an old leader that was cut off answered from its past for up
// to 27 s, measured with nats-server 2.15. With one replica the answer is exact.
const stalePatience = 30 * time.Second

// check compares the ends with the Log, and returns the Log's state.
func (e ends) check(ctx context.Context, c *client.Client) (client.State, error) {
	if e.newest == nil {
		return c.Admin().State(ctx)
	}
	st, err := reached(ctx, c, e.newest.File, e.newest.Recorded.Seq)
	if err == nil {
		err = compareEnd(ctx, c, st, *e.newest)
	}
	if err == nil && e.oldest.Recorded.Seq != e.newest.Recorded.Seq {
		err = compareEnd(ctx, c, st, *e.oldest)
	}
	if err == nil {
		err = e.begins(ctx, c, st)
	}
	return st, err
}

// compareEnd is compare, but distinguishes a changed first line of a file from a line of
// another Log: the Log has the changed line's id at its seq, or has the line after it.
func compareEnd(ctx context.Context, c *client.Client, st client.State, l Line) error {
	err := compare(ctx, c, st, l)
	var foreign *ForeignError
	if !errors.As(err, &foreign) || l.Number != 1 {
		return err
	}
	damage := &DamageError{File: l.File, Line: 1, Seq: l.Recorded.Seq, Why: "it differs from the event in the Log"}
	for m, err := range c.Feed(ctx, client.FeedConfig{After: l.Recorded.Seq - 1, Until: l.Recorded.Seq}) {
		if err != nil {
			return gapOf(err)
		}
		if r, bad := wire.Decode(m.Subject, m.Data, m.Seq); bad == nil && r.ID == l.Recorded.ID {
			return damage
		}
	}
	second, readErr := secondLine(l.File)
	if readErr != nil {
		return fmt.Errorf("cannot read the mirror: %w", readErr)
	}
	if second == nil {
		return err
	}
	var gap *GapError
	switch other := compare(ctx, c, st, *second); {
	case other == nil:
		return damage
	case errors.As(other, &foreign), errors.As(other, &gap):
		return err
	default:
		return other
	}
}

// begins looks whether lines are missing before the oldest one, which the Log holds.
// That older files were put away only the name of an older file can say. (The chain
// cannot: after a partial restore it does not begin at 64 zeros.)
func (e ends) begins(ctx context.Context, c *client.Client, st client.State) error {
	l := e.oldest
	if filepath.Base(l.File) != ActiveName || l.Recorded.Seq <= begin(st) {
		return nil
	}
	for m, err := range c.Feed(ctx, client.FeedConfig{Subjects: []string{wire.AllEvents}, After: begin(st) - 1, Until: l.Recorded.Seq}) {
		if err != nil {
			return err
		}
		if wire.Check(m.Subject, m.Data, m.Seq) != nil {
			continue // it has no line
		}
		if m.Seq == l.Recorded.Seq {
			break
		}
		return &DamageError{File: l.File, Line: 1, Seq: l.Recorded.Seq, Expected: m.Seq, Why: "lines are missing before it"}
	}
	return nil
}

// reached gives the state of a Log that ends at seq or later; an *AheadError that
// names file if it does not.
func reached(ctx context.Context, c *client.Client, file string, seq event.Sequence) (client.State, error) {
	for begun := time.Now(); ; {
		st, err := c.Admin().State(ctx)
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
		if err := wait.For(ctx, 250*time.Millisecond); err != nil {
			return st, err
		}
	}
}

// compare checks that the Log, which ends at st.Last or later, has the line's event at the
// line's seq.
func compare(ctx context.Context, c *client.Client, st client.State, l Line) error {
	seq := l.Recorded.Seq
	for m, err := range c.Feed(ctx, client.FeedConfig{After: seq - 1, Until: st.Last}) {
		switch {
		case err != nil:
			return gapOf(err)
		case m.Seq == seq && !wire.IsGuard(m.Subject) && bytes.Equal(m.Data, l.Body):
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
