package logio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// retry calls f, which only reads, until it succeeds, the context ends, or a further
// attempt would get the same answer.
func (l *Log) retry(ctx context.Context, f func(context.Context) error) error {
	var backoff wait.Backoff
	var told telling
	patience := time.Now().Add(logPatience)
	if l.window == 0 { // Open asks for the first time
		patience = time.Time{}
	}
	for {
		err := lostConnection(ctx, l.once(ctx, f))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return l.inVain(ctx.Err(), err)
		case l.nc.IsClosed():
			return l.closed()
		case errors.Is(err, jetstream.ErrStreamNotFound):
			if time.Now().After(patience) {
				return event.ErrNoLog
			}
		case final(err):
			return err
		}
		if why := l.beyondHope(); why != nil {
			return why
		}
		told.wait(l, "a read", err)
		if !l.pause(ctx, &backoff) {
			return l.inVain(ctx.Err(), err)
		}
	}
}

var errLostConnection = errors.New("the connection was lost before an answer came")

// lostConnection translates the end of an attempt whose caller still waits: see attempt.
func lostConnection(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return errLostConnection
	}
	return err
}

// once makes one attempt of f, when it has a place.
func (l *Log) once(ctx context.Context, f func(context.Context) error) error {
	ctx, leave, err := l.apiPlaces.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := l.attempt(ctx)
	defer cancel()
	return f(ctx)
}

// inVain is the error of a call whose context ended before an answer came: the last
// error, and the known reason why there is no answer.
func (l *Log) inVain(ended, last error) error {
	if last != nil && !errors.Is(ended, last) {
		ended = fmt.Errorf("%w (last: %w)", ended, last)
	}
	if l.cfg.Why != nil {
		if why := l.cfg.Why(); why != nil && !errors.Is(ended, why) {
			ended = fmt.Errorf("%w: %w", ended, why)
		}
	}
	return ended
}

// beyondHope is the reason not to wait: the log's end is damaged, and nobody hosts it
// until somebody has repaired it; or its directory is gone, or holds another log.
func (l *Log) beyondHope() error {
	if l.cfg.Why == nil {
		return nil
	}
	why := l.cfg.Why()
	if errors.Is(why, wire.ErrDamaged) || errors.Is(why, event.ErrGone) || errors.Is(why, event.ErrOtherLog) {
		return why
	}
	return nil
}

// gone is the reason why an append need not wait: the Log's directory is gone, or holds
// another one.
func (l *Log) gone() error {
	why := l.beyondHope()
	if errors.Is(why, wire.ErrDamaged) { // somebody may repair it meanwhile
		return nil
	}
	return why
}

// telling reports once, to the logger, that a call waits for an answer, and why: at once
// if the owner knows the reason, else after a while.
type telling struct {
	since time.Time
	told  bool
}

const tellAfter = 3 * time.Second

func (t *telling) wait(l *Log, what string, last error) {
	if t.since.IsZero() {
		t.since = time.Now()
	}
	if t.told {
		return
	}
	if l.cfg.Why != nil {
		if why := l.cfg.Why(); why != nil {
			last = why
			t.told = true
		}
	}
	if t.told = t.told || time.Since(t.since) > tellAfter; t.told {
		l.cfg.Logger.Warn(what+" waits for an answer", "err", last)
	}
}

// pause waits before the next attempt: a while, and as long as there is no connection. It
// reports whether there is a next attempt.
func (l *Log) pause(ctx context.Context, b *wait.Backoff) bool {
	if b.Wait(ctx) != nil {
		return false
	}
	for ctx.Err() == nil {
		brief, cancel := context.WithTimeout(ctx, hopeEvery)
		if l.conn.connected(brief) {
			b.Reset() // a new host: earlier failures mean nothing for it
		}
		waits := brief.Err() != nil
		cancel()
		if !waits || l.beyondHope() != nil { // an answer is possible now, or not for a long time
			return ctx.Err() == nil
		}
	}
	return false
}

// hopeEvery is how often a call that waits for a host checks whether waiting is still
// useful.
const hopeEvery = 250 * time.Millisecond

// final reports whether an answer of the server is independent of its present state.
func final(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code < 500
}

// closed returns the reason why there is no connection any more.
func (l *Log) closed() error {
	if errors.Is(l.nc.LastError(), nats.ErrAuthorization) {
		return fmt.Errorf("%w: the server does not let this key in any more", event.ErrClosed)
	}
	return event.ErrClosed
}
