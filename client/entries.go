package client

import (
	"context"
	"encoding/json"
	"iter"

	"durablestream/event"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// Entries yields the entries of (after, until] that folds need, in order, and then an
// entry with only a Seq, which says that everything up to it has been read.
func (c *Client) Entries(ctx context.Context, needs projection.Needs, after, until event.Sequence) iter.Seq2[projection.Entry, error] {
	return c.entriesOf(ctx, subjectsOf(needs), after, until)
}

// FollowEntries yields the entries after a position that folds need, and never ends by
// itself.
func (c *Client) FollowEntries(ctx context.Context, needs projection.Needs, after event.Sequence) iter.Seq2[projection.Entry, error] {
	return c.feedEntries(ctx, logio.FeedConfig{Subjects: subjectsOf(needs), After: after, NoHeaders: true})
}

func (c *Client) entriesOf(ctx context.Context, subjects []string, after, until event.Sequence) iter.Seq2[projection.Entry, error] {
	return func(yield func(projection.Entry, error) bool) {
		if after >= until {
			return
		}
		for e, err := range c.feedEntries(ctx, logio.FeedConfig{Subjects: subjects, After: after, Until: until, NoHeaders: true, Scattered: true}) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		yield(projection.Entry{Seq: until}, nil)
	}
}

func (c *Client) feedEntries(ctx context.Context, cfg logio.FeedConfig) iter.Seq2[projection.Entry, error] {
	return func(yield func(projection.Entry, error) bool) {
		for m, err := range c.log.Feed(ctx, cfg) {
			if err != nil {
				yield(projection.Entry{}, err)
				return
			}
			e, ok := c.entry(m)
			c.imports.believe(ctx, e.Event)
			if ok && !yield(e, nil) {
				return
			}
		}
	}
}

func subjectsOf(n projection.Needs) []string {
	subjects := wire.FilterSubjects(event.Filter{Types: n.Types})
	if len(n.Types) == 0 {
		subjects = nil
	}
	seen := map[string]bool{}
	for _, kind := range n.Guards {
		if !seen[kind] {
			seen[kind] = true
			subjects = append(subjects, wire.GuardFilter(kind))
		}
	}
	return subjects
}

// entry translates a stored message; ok is false if the message is set aside.
func (c *Client) entry(m logio.Message) (projection.Entry, bool) {
	e := projection.Entry{Seq: m.Seq, Stored: m.Stored}
	if wire.IsGuard(m.Subject) {
		g, ok := decodeGuard(m.Subject, m.Data)
		e.Guard = &g
		return e, ok
	}
	r, err := wire.Decode(m.Subject, m.Data, m.Seq)
	if err != nil {
		c.setAside.Add(1)
		c.cfg.Logger.Warn("set aside", "seq", m.Seq, "err", err)
		return e, false
	}
	e.Event = &r
	return e, true
}

func decodeGuard(subject string, body []byte) (projection.Guard, bool) {
	kind, id, ok := wire.ParseGuardSubject(subject)
	var b wire.GuardBody
	if !ok || json.Unmarshal(body, &b) != nil {
		// A guard without a readable body counts too.
		return projection.Guard{Kind: kind, ID: id}, ok
	}
	return projection.Guard{
		Kind: kind, ID: id, Event: b.Event, State: b.State,
		Holder: b.Holder, Lease: event.StoredMillis(b.Lease),
	}, true
}

// fold applies everything up to the Log's present position to folds.
func (c *Client) fold(ctx context.Context, folds ...projection.Fold) (*projection.Runner, event.Sequence, error) {
	position, err := c.log.Position(ctx)
	if err != nil {
		return nil, 0, err
	}
	r := &projection.Runner{Folds: folds}
	err = r.Run(c.Entries(ctx, projection.Merge(folds...), 0, position))
	return r, position, err
}
