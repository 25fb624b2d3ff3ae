package logio

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"time"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/roles"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// FeedConfig says which stored messages a feed brings.
type FeedConfig struct {
	// Subjects must not overlap. Default: the whole Log, events and guards.
	Subjects []string
	// After is the position before the first message wanted.
	After event.Sequence
	// Until ends the feed at that position. 0: it follows the Log for ever.
	Until event.Sequence
	// HeadersOnly leaves the bodies out.
	HeadersOnly bool
	// NoHeaders lets a feed leave the headers out, where that is faster.
	NoHeaders bool

	// scattered: most of what Subjects hold has a subject of its own, as guards do. The
	// engine finds the next of these by going through all subjects of a block.
	Scattered bool
	// where lets the host leave out more than Subjects do.
	Where Where
	// plain: the host is not asked; first: until the feed begins anew.
	plain, first bool
}

// Message is one stored message as it is.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	Seq     event.Sequence
	Stored  time.Time // the server's clock
	// Pending is how many more matched when this one was sent; 0: caught up. One that
	// the host has found by its index has 1: how many there are it does not know.
	Pending uint64

	Copies []string // the nodes whose copies the feed has read so far, where it cannot see gaps
}

const (
	feedMessages  = 1000   // the fewest asked for at once, and
	feedCatchUp   = 10_000 // the most, of a reader that has so much before it
	feedBytes     = 32 << 20
	feedHeartbeat = 2 * time.Second
	// A consumer whose reader has died is gone from the server after this.
	consumerIdle = 30 * time.Second
	// How long the end of a feed may wait to take its consumer off the server.
	dropTimeout = time.Second
)

// Feed brings stored messages in the order of the Log, each once, without gaps.
// It goes on through reconnects and restarts: it always knows its position, and
// makes its consumer anew from there. Where the server admits no more readers it waits. The context or a break ends it; its last
// error is the context's. A *event.DamageError ends it where the Log has lost something that
// it would bring, or that it may have brought; on a cluster only if no replica that it
// tries is whole.
func (l *Log) Feed(ctx context.Context, cfg FeedConfig) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f := &feed{log: l, cfg: cfg, at: cfg.After, plain: cfg.plain, counting: counting{patience: stallTime}}
		var wait backoff
		var told telling
		var missing time.Time // since when the Log was not there
		var last error        // of the last consumer
		tries := 0            // of replicas that are damaged
		for {
			before := f.at
			done, err := false, ctx.Err()
			if err == nil {
				done, err = f.run(ctx, yield)
			}
			if done && err == nil && cfg.Until != 0 && !f.stopped {
				err = l.Verify(ctx, f.read, cfg.After, cfg.Until)
			}
			if done && err == nil {
				return
			}
			damage, damaged := asDamage(err)
			if f.at > before {
				tries = 0
			}
			switch {
			case damaged && !done && l.clustered && damage.From > f.at && tries < otherReplicas:
				tries++ // this replica has not got it, another one may
			case damaged:
				if !l.clustered { // the host should know at once
					brief, cancel := context.WithTimeout(ctx, dropTimeout)
					_, _ = l.checked(brief, "") // it is damaged, whatever the answer
					cancel()
				}
				yield(Message{}, fmt.Errorf("client: read the Log: %w", err))
				return
			case ctx.Err() != nil:
				ended := ctx.Err()
				if errors.Is(last, event.ErrTooManyReaders) {
					ended = l.inVain(ended, last)
				}
				yield(Message{}, fmt.Errorf("client: read the Log: %w", ended))
				return
			case l.nc.IsClosed():
				yield(Message{}, fmt.Errorf("client: read the Log: %w", l.closed()))
				return
			case errors.Is(err, event.ErrOtherLog), errors.Is(err, event.ErrNoLog):
				yield(Message{}, fmt.Errorf("client: read the Log: %w", err))
				return
			case errors.Is(err, jetstream.ErrStreamNotFound):
				if missing.IsZero() {
					missing = time.Now()
				} else if time.Since(missing) > logPatience {
					yield(Message{}, fmt.Errorf("client: read the Log: %w", event.ErrNoLog))
					return
				}
			case final(err):
				yield(Message{}, fmt.Errorf("client: read the Log: %w", err))
				return
			}
			if why := l.beyondHope(); why != nil {
				yield(Message{}, fmt.Errorf("client: read the Log: %w", why))
				return
			}
			if !errors.Is(err, jetstream.ErrStreamNotFound) {
				missing = time.Time{}
			}
			if f.at > before {
				wait, told = backoff{}, telling{}
			}
			last = err
			told.wait(l, "a reader", err)
			l.cfg.Logger.Debug("feed: making the consumer anew", "seq", f.at, "err", err)
			l.pause(ctx, &wait)
		}
	}
}

type feed struct {
	log     *Log
	cfg     FeedConfig
	only    []string       // of everything that is read, only these are brought; nil: all
	at      event.Sequence // the last position that was read
	begun   bool           // a consumer was made before
	past    bool           // the end of a bounded feed was passed
	stopped bool           // the reader wants no more
	plain   bool           // the host's index is of no use to this feed

	counting
}

// run reads with one consumer until it fails or the feed is done.
func (f *feed) run(ctx context.Context, yield func(Message, error) bool) (done bool, err error) {
	if f.cfg.Until != 0 && f.at >= f.cfg.Until {
		return true, nil
	}
	if f.cfg.first {
		f.plain = !f.begun
	}
	life := f.log.conn.current()
	if err := f.sameLog(ctx); err != nil {
		return false, err
	}
	if f.asksHost() {
		if err := f.find(ctx, yield); err != nil || f.stopped {
			return f.stopped, err
		}
		if f.cfg.Until != 0 && f.at >= f.cfg.Until {
			return true, nil
		}
	}
	cons, pending, err := f.consumer(ctx)
	if err != nil {
		return false, err
	}
	if f.dense(pending) {
		f.drop(ctx, cons)
		f.only, f.cfg.Subjects = f.cfg.Subjects, nil
		if cons, pending, err = f.consumer(ctx); err != nil {
			return false, err
		}
	}
	defer f.drop(ctx, cons)
	f.serves(cons, pending)
	// On a single host the one server holds all that there is.
	sure := !f.log.clustered
	ends := f.cfg.Until != 0
	if ends && pending == 0 && sure {
		return true, f.whole(f.cfg.Until)
	}
	// alive ends with ctx, and with the connection: a server that comes back has
	// forgotten the consumer. It has no deadline, which would become the requests'.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, end)()
	defer context.AfterFunc(life, end)()
	limit := max(feedBytes, 2*int(f.log.nc.MaxPayload()))
	var look *progress
	defer func() {
		if look != nil {
			look.end()
		}
	}()
	stall := time.NewTimer(f.patience)
	defer stall.Stop()
	ask := time.NewTicker(damageLook)
	defer ask.Stop()
	for delivered := uint64(0); ; {
		// Not cons.Messages: it has room for what it asks for and none for the
		// heartbeats that come in between, so that it loses messages of a reader that
		// takes its time, and says nothing if they were the last.
		// Between two requests the server waits for the reader: the fewer, the better.
		msgs, err := cons.Fetch(int(min(max(pending, feedMessages), feedCatchUp)), jetstream.FetchMaxBytes(limit),
			jetstream.FetchHeartbeat(feedHeartbeat), jetstream.FetchContext(alive))
		if err != nil {
			return false, err
		}
		for open := true; open; {
			if ends && pending == 0 && look == nil { // only where this is not sure to be the end
				if look, err = f.log.watchProgress(cons); err != nil {
					return false, err
				}
			}
			var m jetstream.Msg
			select {
			case m, open = <-msgs.Messages():
				if !open {
					continue
				}
				delivered++
				pending, err = f.take(ctx, m, delivered, yield)
				if err != nil {
					return false, err
				}
				stall.Reset(f.patience)
				if f.stopped {
					return true, nil
				}
				if f.off(delivered, pending, m) {
					return false, f.suspect(ctx)
				}
				reached := f.past || f.at >= f.cfg.Until || pending == 0 && sure
				if ends && reached && !f.owed(delivered) {
					return true, f.whole(f.cfg.Until)
				}
			case <-stall.C:
				if pending == 0 || len(msgs.Messages()) > 0 {
					continue
				}
				if sure && len(f.cfg.Subjects) > 0 {
					return false, f.suspect(ctx)
				}
				if sure { // it may know of fewer than when it was asked
					if err := f.log.Verify(ctx, []string{""}, f.at, f.cfg.Until); err != nil {
						return false, err
					}
					stall.Reset(f.patience)
				}
				if look == nil {
					if look, err = f.log.watchProgress(cons); err != nil {
						return false, err
					}
				}
			case <-ask.C:
				if err := f.passed(alive); err != nil {
					return false, err
				}
			case m := <-look.answers():
				at, sent, err := look.take(m)
				switch {
				case err != nil:
					return false, err
				case sent != delivered || at < f.at:
				case pending > 0: // it had more, and has nothing more
					if d := f.leftOut(ctx, at); d != nil {
						return false, d
					}
				case ends && at >= f.cfg.Until:
					return true, f.whole(f.cfg.Until)
				}
			}
		}
		if err := msgs.Error(); err != nil {
			return false, err
		}
	}
}

const (
	denseFrom = 500 // messages
	densePart = 16
)

// dense reports that it is faster to read everything than to let the engine find what
// is wanted: among 14,000 messages it took 500 ms to find 4,000 guards and their
// events, and takes 50 ms to bring all.
func (f *feed) dense(pending uint64) bool {
	return f.cfg.Scattered && len(f.cfg.Subjects) > 0 && f.cfg.Until != 0 && pending >= denseFrom &&
		uint64(f.cfg.Until-f.at) <= densePart*pending
}

// take brings one message, which must be the consumer's next, and says how many more
// the server had when it sent it. It sets past behind the end of a bounded feed, and
// stopped when the reader wants no more.
func (f *feed) take(ctx context.Context, m jetstream.Msg, due uint64, yield func(Message, error) bool) (pending uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return 0, err
	}
	if meta.Sequence.Consumer != due {
		return 0, fmt.Errorf("the consumer brought its message %d when %d was due", meta.Sequence.Consumer, due)
	}
	seq := event.Sequence(meta.Sequence.Stream)
	if f.cfg.Until != 0 && seq > f.cfg.Until {
		f.past = true
		return meta.NumPending, nil
	}
	if seq > f.at { // a consumer made beyond the end starts at the end
		if err := f.follows(ctx, seq); err != nil {
			return 0, err
		}
		if err := f.log.awaitSettled(ctx, m.Headers(), seq); err != nil {
			return 0, err
		}
		f.at = seq
		f.took++
		f.log.sawSequence(seq)
		if f.only != nil && !wire.InSubjects(f.only, m.Subject()) {
			return meta.NumPending, nil
		}
		f.stopped = !yield(Message{m.Subject(), m.Headers(), m.Data(), seq, meta.Timestamp, meta.NumPending, f.read}, nil)
	}
	return meta.NumPending, nil
}

// sameLog sees to it that a feed that begins anew reads the Log that it has read so
// far: in another one its position would mean nothing, and what lies before it
// would be passed over.
func (f *feed) sameLog(ctx context.Context) error {
	if !f.begun {
		f.begun = true
		return nil
	}
	info, err := f.log.Info(ctx)
	if err == nil && !info.Created.Equal(f.log.created) {
		err = fmt.Errorf("%w: it was made at %s, and the one that was opened at %s", event.ErrOtherLog, info.Created, f.log.created)
	}
	return err
}

func (f *feed) consumer(ctx context.Context) (jetstream.Consumer, uint64, error) {
	cfg := jetstream.ConsumerConfig{
		Name:              "ds_" + rand.Text(),
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: f.log.idle(),
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       uint64(f.at) + 1,
		HeadersOnly:       f.cfg.HeadersOnly,
	}
	switch len(f.cfg.Subjects) {
	case 0:
	case 1:
		cfg.FilterSubject = f.cfg.Subjects[0]
	default:
		cfg.FilterSubjects = f.cfg.Subjects
	}
	// A creation that is given up half-way leaves its consumer behind, so the answer
	// is waited for, within bounds, when ctx ends meanwhile.
	ctx, release := outlive(ctx, dropTimeout)
	defer release()
	var cons jetstream.Consumer
	err := f.log.once(ctx, func(ctx context.Context) (err error) {
		cons, err = f.log.js.CreateConsumer(ctx, wire.LogName, cfg)
		return err
	})
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == engine.CodeMaxConsumers {
		return nil, 0, fmt.Errorf("%w (%s)", event.ErrTooManyReaders, api.Description)
	}
	if err != nil {
		return nil, 0, err
	}
	return cons, cons.CachedInfo().NumPending, nil
}

// drop takes the consumer off the server; should that fail, it goes by itself
// after consumerIdle.
func (f *feed) drop(ctx context.Context, cons jetstream.Consumer) {
	if !f.log.nc.IsConnected() || !f.log.mayDelete() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := f.log.js.DeleteConsumer(ctx, wire.LogName, cons.CachedInfo().Name); err != nil {
		f.log.cfg.Logger.Debug("feed: the consumer was not taken off", "err", err)
	}
}

// outlive gives a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}

// mayDelete reports whether consumers may be taken off the server.
func (l *Log) mayDelete() bool {
	return !l.rights.Limited || l.rights.May.Prefix() != roles.APIPrefix
}

// idle is how long a consumer may be unread before it goes: soon, where nothing else
// takes it off.
func (l *Log) idle() time.Duration {
	if l.mayDelete() {
		return consumerIdle
	}
	return 5 * time.Second
}
