package client

import (
	"context"
	"errors"
	"time"

	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// Resume is the unfinished work that survived. The first four keys are the original
// module's.
type Resume struct {
	// EventsReplayed is the number of events in the Log, as the original counts;
	// EventsRead is the number that this call read.
	EventsReplayed     uint64                  `json:"events_replayed"`
	PendingCheckpoints []projection.Checkpoint `json:"pending_checkpoints"`
	ActiveIntents      []projection.Intent     `json:"active_intents"`
	LastEventAt        event.Time              `json:"last_event_at,omitzero"` // zero: no event

	OpenSessions []projection.Session `json:"open_sessions"`
	Position     event.Sequence       `json:"position"`
	EventsRead   int                  `json:"events_read"` // guards included
	TookMS       float64              `json:"took_ms"`
	SetAside     []projection.Aside   `json:"set_aside,omitempty"`
}

// Resume rebuilds the unfinished state from the Log: pending checkpoints, intents that
// have not ended, open sessions. It reads only the messages that these need, changes
// nothing, and may be called any number of times.
func (c *Client) Resume(ctx context.Context) (Resume, error) {
	start := time.Now()
	var checkpoints projection.Checkpoints
	var intents projection.Intents
	var sessions projection.Sessions
	runner, position, err := c.fold(ctx, &checkpoints, &intents, &sessions)
	if err != nil {
		return Resume{}, err
	}
	_, read := runner.Applied()
	r := Resume{
		PendingCheckpoints: checkpoints.All(true), ActiveIntents: intents.All(true), OpenSessions: sessions.Open(),
		Position: position, EventsRead: read, SetAside: runner.Aside(),
	}
	now := time.Now()
	for i := range r.PendingCheckpoints {
		r.PendingCheckpoints[i].Overdue = r.PendingCheckpoints[i].PastDue(now)
	}
	for i := range r.ActiveIntents {
		r.ActiveIntents[i].Overdue = r.ActiveIntents[i].PastDue(now)
	}
	if r.EventsReplayed, err = c.countEvents(ctx); err != nil {
		return r, err
	}
	for last, err := range c.Query(ctx, event.Filter{Last: 1}) {
		if err != nil {
			return r, err
		}
		r.LastEventAt = event.Time{Time: last.Timestamp}
	}
	r.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return r, nil
}

// countEvents returns the number of messages that a reader of all events would get.
func (c *Client) countEvents(ctx context.Context) (uint64, error) {
	return c.log.CountAfter(ctx, []string{wire.AllEvents}, 0)
}

// ExpireImported ends imported checkpoints and intents whose time has passed: checkpoints
// expire, intents fail with reason "timeout". The sweeper leaves these alone, since
// perhaps nobody has seen them yet.
func (dl Deadlines) ExpireImported(ctx context.Context) (checkpoints, intents int, err error) {
	c := dl.c
	var cf projection.Checkpoints
	var xf projection.Intents
	if _, _, err := c.fold(ctx, &cf, &xf); err != nil {
		return 0, 0, err
	}
	now := time.Now()
	for _, cp := range cf.All(true) {
		if !cp.Imported || !cp.PastDue(now) {
			continue
		}
		if _, err := c.Deadlines().Expire(ctx, cp); err == nil {
			checkpoints++
		} else if !isDecided(err) {
			return checkpoints, intents, err
		}
	}
	for _, i := range xf.All(true) {
		if !i.Imported || !i.PastDue(now) {
			continue
		}
		if err := c.Deadlines().TimeOut(ctx, i); err == nil {
			intents++
		} else if !errors.Is(err, ErrIntentEnded) {
			return checkpoints, intents, err
		}
	}
	return checkpoints, intents, nil
}

func isDecided(err error) bool {
	var d *DecidedError
	return errors.As(err, &d)
}

// TimeOut fails an intent after its timeout, regardless of the holder. Only the sweeper
// calls it.
func (dl Deadlines) TimeOut(ctx context.Context, i projection.Intent) error {
	c := dl.c
	_, err := c.Intents().Fail(ctx, i.ID, End{By: SweeperActor, Token: i.GuardSeq, Error: "timeout", Reason: "timeout"})
	return err
}
