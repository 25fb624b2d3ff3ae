package logio

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reading is the state of a feed's read with one consumer.
type reading struct {
	f         *feed
	cons      jetstream.Consumer
	yield     func(Message, error) bool
	pending   uint64       // messages that the server had left when it sent the last one
	delivered uint64       // messages that the consumer has sent
	far       *progress    // the consumer's progress; nil until the feed needs it
	stall     *time.Timer  // fires when the consumer has sent nothing for stallTime
	look      *time.Ticker // the time to ask whether damage was found
}

func newReading(f *feed, cons jetstream.Consumer, pending uint64, yield func(Message, error) bool) *reading {
	return &reading{f: f, cons: cons, pending: pending, yield: yield, stall: time.NewTimer(f.patience), look: time.NewTicker(damageLook)}
}

func (r *reading) end() {
	r.look.Stop()
	r.stall.Stop()
	if r.far != nil {
		r.far.end()
	}
}

// run reads until the consumer fails or the feed is done. The requests have the context
// alive.
func (r *reading) run(ctx, alive context.Context) (done bool, err error) {
	for {
		msgs, err := r.request(alive)
		if err != nil {
			return false, err
		}
		if done, err := r.drain(ctx, alive, msgs); done || err != nil {
			return done, err
		}
		if err := msgs.Error(); err != nil {
			return false, err
		}
	}
}

// request asks the server for more messages. Between two requests the server waits for
// the reader, so fewer requests are faster.
func (r *reading) request(alive context.Context) (jetstream.MessageBatch, error) {
	// Not cons.Messages: its buffer has room for the requested messages and none for the
	// heartbeats in between. It loses messages of a slow reader, and does not report it
	// if they were the last.
	limit := max(feedBytes, 2*int(r.f.log.nc.MaxPayload()))
	return r.cons.Fetch(int(min(max(r.pending, feedMessages), feedCatchUp)), jetstream.FetchMaxBytes(limit),
		jetstream.FetchHeartbeat(feedHeartbeat), jetstream.FetchContext(alive))
}

// drain takes the messages of one request, until the request ends or the feed does.
func (r *reading) drain(ctx, alive context.Context, msgs jetstream.MessageBatch) (done bool, err error) {
	for {
		if r.f.bounded() && r.pending == 0 { // this may be the end, but is not certain
			if err := r.watch(); err != nil {
				return false, err
			}
		}
		select {
		case m, open := <-msgs.Messages():
			if !open {
				return false, nil
			}
			done, err = r.message(ctx, m)
		case <-r.stall.C:
			if r.pending > 0 && len(msgs.Messages()) == 0 {
				err = r.stalled(ctx)
			}
		case <-r.look.C:
			err = r.f.passed(alive)
		case m := <-r.far.answers():
			done, err = r.heard(ctx, m)
		}
		if done || err != nil {
			return done, err
		}
	}
}

// watch begins to ask how far the consumer has gone.
func (r *reading) watch() (err error) {
	if r.far == nil {
		r.far, err = r.f.log.watchProgress(r.cons)
	}
	return err
}

// message processes one message of the consumer.
func (r *reading) message(ctx context.Context, m jetstream.Msg) (done bool, err error) {
	f := r.f
	r.delivered++
	if r.pending, err = f.take(ctx, m, r.delivered, r.yield); err != nil {
		return false, err
	}
	r.stall.Reset(f.patience)
	// On a single host, the one server holds everything.
	reached := f.past || f.at >= f.cfg.Until || r.pending == 0 && !f.log.clustered
	switch {
	case f.stopped:
		return true, nil
	case f.off(r.delivered, r.pending, m):
		return false, f.suspect(ctx)
	case f.bounded() && reached && !f.owed(r.delivered):
		return true, f.whole(f.cfg.Until)
	}
	return false, nil
}

// stalled handles a consumer that has more and has sent nothing for stallTime.
func (r *reading) stalled(ctx context.Context) error {
	f := r.f
	if !f.log.clustered {
		if len(f.cfg.Subjects) > 0 {
			return f.suspect(ctx)
		}
		// The server may know of fewer messages than when it was asked.
		if err := f.log.Verify(ctx, []string{""}, f.at, f.cfg.Until); err != nil {
			return err
		}
		r.stall.Reset(f.patience)
	}
	return r.watch()
}

// heard processes a report of how far the consumer has gone.
func (r *reading) heard(ctx context.Context, m *nats.Msg) (done bool, err error) {
	f := r.f
	at, sent, err := r.far.take(m)
	switch {
	case err != nil:
		return false, err
	case sent != r.delivered || at < f.at: // messages are on their way
		return false, nil
	case r.pending > 0: // it had more before, and has nothing more now
		return false, f.leftOut(ctx, at)
	case f.bounded() && at >= f.cfg.Until:
		return true, f.whole(f.cfg.Until)
	}
	return false, nil
}
