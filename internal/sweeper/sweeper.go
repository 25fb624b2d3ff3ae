// Package sweeper decides what time decides: it expires checkpoints, fails intents
// whose time is up, and cancels what was asked to be cancelled or belongs to a
// session that is gone.
//
// Safety: it decides through the same guards as everybody else, so any number of
// sweepers, and a human who is faster, make one decision. Liveness: whatever is due
// stays in its folds until a decision or an end arrives there, and is tried again.
//
// What was imported it leaves alone: nobody may have seen it yet.
package sweeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// Config says whose log is swept. Client is required.
type Config struct {
	Client *client.Client
	// Logger hears of what could not be decided. Default: discarded.
	Logger *slog.Logger
}

// again is how long after a failure the sweeper tries again, and idle how often it
// looks at the clock when nothing is due: a machine that slept wakes up late.
const (
	again = time.Second
	idle  = 10 * time.Second
)

// state is what the sweeper knows.
type state struct {
	runner      projection.Runner
	checkpoints projection.Checkpoints
	intents     projection.Intents
	sessions    projection.Sessions
}

func newState() *state {
	s := &state{}
	s.runner.Folds = []projection.Fold{&s.checkpoints, &s.intents, &s.sessions}
	return s
}

// Sweep decides what is due at present, once. A host calls it before others can
// join, so that nobody approves what expired while everything was down.
func Sweep(ctx context.Context, cfg Config) (decided int, err error) {
	cfg = cfg.withDefaults()
	s := newState()
	position, err := cfg.Client.Position(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweeper: %w", err)
	}
	if err := s.runner.Run(cfg.Client.Entries(ctx, projection.Merge(s.runner.Folds...), 0, position)); err != nil {
		return 0, fmt.Errorf("sweeper: %w", err)
	}
	due, _ := s.due(time.Now())
	if len(due) > 0 && restoring(ctx, cfg) {
		return 0, nil
	}
	for _, d := range due {
		err := d.do(ctx, cfg.Client)
		switch {
		case err == nil:
			decided++
		case ctx.Err() != nil || errors.Is(err, client.ErrClosed):
			return decided, fmt.Errorf("sweeper: %s: %w", d.what, err)
		default: // one that cannot be decided keeps no host from starting
			cfg.Logger.Warn("sweeper: not decided", "what", d.what, "err", err)
		}
	}
	return decided, nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return c
}

// Run sweeps until ctx ends, and then returns nil. Its error is the reader's, such
// as client.ErrClosed.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newState()
	needs := projection.Merge(s.runner.Folds...)
	if err := cfg.Client.Admin().Needs(client.RoleOperator, "decide what time decides"); err != nil {
		return fmt.Errorf("sweeper: %w", err)
	}
	// History first: half of it would show as due what was decided long ago.
	position, err := cfg.Client.Position(ctx)
	if err == nil {
		err = s.runner.Run(cfg.Client.Entries(ctx, needs, 0, position))
	}
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweeper: %w", err)
	}
	read := make(chan error, 1)
	go func() { read <- s.runner.Run(cfg.Client.FollowEntries(ctx, needs, position)) }()
	defer func() {
		cancel()
		<-read //nolint:errcheck // told already, or the end of ctx
	}()
	for {
		changed := s.runner.Changed()
		wait := s.sweep(ctx, cfg)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case err := <-read:
			timer.Stop()
			read <- err // for the join above
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("sweeper: %w", err)
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sweep decides what is due and returns how long nothing else will be.
func (s *state) sweep(ctx context.Context, cfg Config) time.Duration {
	due, wait := s.due(time.Now())
	if len(due) > 0 && restoring(ctx, cfg) {
		return again
	}
	for _, d := range due {
		if err := d.do(ctx, cfg.Client); err != nil {
			if ctx.Err() == nil {
				cfg.Logger.Warn("sweeper: not decided, trying again", "what", d.what, "err", err)
			}
			if !errors.Is(err, client.ErrBlocked) { // until its guard is voided, which comes by
				wait = min(wait, again)
			}
		}
	}
	return wait
}

// restoring reports a Log that is being restored: what looks due may be decided by
// an event that is yet to be written back. It is asked after the events were read, and
// the mark is set before the first of them is written.
func restoring(ctx context.Context, cfg Config) bool {
	st, err := cfg.Client.Admin().State(ctx)
	return err != nil || wire.IsRestoring(st.Config)
}

// task is one decision that is due.
type task struct {
	what string
	do   func(context.Context, *client.Client) error
}

// due lists what is due, and how long until the next.
func (s *state) due(now time.Time) (tasks []task, wait time.Duration) {
	wait = idle
	s.runner.View(func() {
		for _, cp := range s.checkpoints.All(true) {
			if t, ok := s.checkpoint(cp, now, &wait); ok {
				tasks = append(tasks, t)
			}
		}
		for _, i := range s.intents.All(true) {
			if t, ok := s.intent(i, now, &wait); ok {
				tasks = append(tasks, t)
			}
		}
	})
	return tasks, max(wait, time.Millisecond)
}

func (s *state) checkpoint(cp projection.Checkpoint, now time.Time, wait *time.Duration) (task, bool) {
	if cp.CancelRequested {
		return cancelTask(cp, cp.CancelReason), true
	}
	if cp.Imported {
		return task{}, false
	}
	if why := s.gone(cp.StreamID, cp.Seq); why != "" {
		return cancelTask(cp, why), true
	}
	if cp.ExpiresAt.IsZero() {
		return task{}, false
	}
	if left := cp.ExpiresAt.Sub(now); left > 0 {
		*wait = min(*wait, left)
		return task{}, false
	}
	return task{"expire checkpoint " + cp.ID, func(ctx context.Context, c *client.Client) error {
		_, err := c.Deadlines().Expire(ctx, cp)
		return settled(err)
	}}, true
}

func cancelTask(cp projection.Checkpoint, reason string) task {
	return task{"cancel checkpoint " + cp.ID, func(ctx context.Context, c *client.Client) error {
		_, err := c.Deadlines().Cancel(ctx, cp, reason)
		return settled(err)
	}}
}

func (s *state) intent(i projection.Intent, now time.Time, wait *time.Duration) (task, bool) {
	if i.Imported {
		return task{}, false
	}
	if why := cmp.Or(s.gone(i.StreamID, i.Seq), s.gone(i.ParentSessionID, i.Seq)); why != "" {
		return task{"abort intent " + i.ID, func(ctx context.Context, c *client.Client) error {
			_, err := c.Intents().Abort(ctx, i.ID, client.End{By: client.SweeperActor, Reason: why})
			return settled(err)
		}}, true
	}
	due := i.Due()
	if due.IsZero() {
		return task{}, false
	}
	if left := due.Sub(now); left > 0 {
		*wait = min(*wait, left)
		return task{}, false
	}
	return task{"time out intent " + i.ID, func(ctx context.Context, c *client.Client) error {
		return settled(c.Deadlines().TimeOut(ctx, i))
	}}, true
}

// gone says why the session of something from before, or one above it, has ended;
// "" if none has.
func (s *state) gone(session string, seq event.Sequence) string {
	seen := map[string]bool{}
	for session != "" && !seen[session] {
		seen[session] = true
		x, ok := s.sessions.Get(session)
		if !ok {
			return ""
		}
		if x.Gone > seq {
			return "session " + x.ID + " was " + x.Status
		}
		session = x.Parent
	}
	return ""
}

// settled takes it that another was faster: what was to be decided is decided.
func settled(err error) error {
	var decided *client.DecidedError
	var conflict *client.ConflictError
	if errors.As(err, &decided) || errors.Is(err, client.ErrIntentEnded) || errors.As(err, &conflict) {
		return nil
	}
	return err
}
