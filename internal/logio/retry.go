package logio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"durablestream/event"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// retry calls f, which only reads, until it succeeds, the context ends, or the
// answer would not change.
func (l *Log) retry(ctx context.Context, f func(context.Context) error) error {
	var wait backoff
	var told telling
	patience := time.Now().Add(logPatience)
	if l.window == 0 { // New asks for the first time
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
		if !l.pause(ctx, &wait) {
			return l.inVain(ctx.Err(), err)
		}
	}
}

var errLostConnection = errors.New("the connection was lost before an answer came")

// lostConnection says what the end of an attempt means whose caller still waits: see
// attempt.
func lostConnection(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return errLostConnection
	}
	return err
}

// once makes one attempt of f, when it has a place in the line.
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

// inVain is the error of a call whose context ended before an answer came: what was
// heard last, and what is known of why there is none.
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

// beyondHope is why a call is not worth waiting for: the log's end is damaged, and nobody
// hosts it until somebody has repaired it; or its directory has gone, or holds another log.
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

// gone is why an append is not worth waiting for: the Log's directory has gone, or holds
// another one.
func (l *Log) gone() error {
	why := l.beyondHope()
	if errors.Is(why, wire.ErrDamaged) { // somebody may repair it meanwhile
		return nil
	}
	return why
}

// telling tells once, in the log, that a call waits for an answer, and why: at once
// where the owner knows, else after a while.
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

// pause waits before the next try: a while, and as long as there is no connection.
// It reports whether there is to be one.
func (l *Log) pause(ctx context.Context, b *backoff) bool {
	if !b.sleep(ctx) {
		return false
	}
	for ctx.Err() == nil {
		brief, cancel := context.WithTimeout(ctx, hopeEvery)
		if l.conn.connected(brief) {
			*b = backoff{} // the host is a new one: what went before says nothing of it
		}
		waits := brief.Err() != nil
		cancel()
		if !waits || l.beyondHope() != nil { // there is an answer to be had, or none for long
			return ctx.Err() == nil
		}
	}
	return false
}

// hopeEvery is how often who waits for a host asks whether there is to be one.
const hopeEvery = 250 * time.Millisecond

// final reports an answer of the server that is not about its present state.
func final(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code < 500
}

// closed tells why there is no connection any more.
func (l *Log) closed() error {
	if errors.Is(l.nc.LastError(), nats.ErrAuthorization) {
		return fmt.Errorf("%w: the server does not let this key in any more", event.ErrClosed)
	}
	return event.ErrClosed
}
