package logio

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reading is what a feed reads with one consumer.
type reading struct {
	f         *feed
	cons      jetstream.Consumer
	yield     func(Message, error) bool
	pending   uint64       // messages that the server had left when it sent the last one
	delivered uint64       // messages that the consumer has brought
	far       *progress    // how far the consumer has gone; nil until the feed needs to know
	stall     *time.Timer  // fires when the consumer has brought nothing for long
	look      *time.Ticker // says when to ask whether damage was found
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

// run reads until the consumer fails or the feed is done. alive is the context of the
// requests.
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

// request asks the server for more messages. Between two requests the server waits for the
// reader: the fewer, the better.
func (r *reading) request(alive context.Context) (jetstream.MessageBatch, error) {
	// Not cons.Messages: it has room for what it asks for and none for the heartbeats that
	// come in between, so that it loses messages of a reader that takes its time, and says
	// nothing if they were the last.
	limit := max(feedBytes, 2*int(r.f.log.nc.MaxPayload()))
	return r.cons.Fetch(int(min(max(r.pending, feedMessages), feedCatchUp)), jetstream.FetchMaxBytes(limit),
		jetstream.FetchHeartbeat(feedHeartbeat), jetstream.FetchContext(alive))
}

// drain takes the messages of one request, until the request ends or the feed does.
func (r *reading) drain(ctx, alive context.Context, msgs jetstream.MessageBatch) (done bool, err error) {
	for {
		if r.f.bounded() && r.pending == 0 { // it may be the end, and is not known to be
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

// message takes in one message of the consumer's.
func (r *reading) message(ctx context.Context, m jetstream.Msg) (done bool, err error) {
	f := r.f
	r.delivered++
	if r.pending, err = f.take(ctx, m, r.delivered, r.yield); err != nil {
		return false, err
	}
	r.stall.Reset(f.patience)
	// On a single host the one server holds all that there is.
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

// stalled is called where the consumer has more, and has brought nothing for long.
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

// heard takes in how far the consumer has gone.
func (r *reading) heard(ctx context.Context, m *nats.Msg) (done bool, err error) {
	f := r.f
	at, sent, err := r.far.take(m)
	switch {
	case err != nil:
		return false, err
	case sent != r.delivered || at < f.at: // messages are on their way
		return false, nil
	case r.pending > 0: // it had more, and has nothing more
		return false, f.leftOut(ctx, at)
	case f.bounded() && at >= f.cfg.Until:
		return true, f.whole(f.cfg.Until)
	}
	return false, nil
}
