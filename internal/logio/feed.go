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
	"durablestream/internal/wait"
	"durablestream/internal/wire"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// FeedConfig selects the stored messages of a feed.
type FeedConfig struct {
	// Subjects must not overlap. Default: the whole Log, events and guards.
	Subjects []string
	// After is the position before the first message.
	After event.Sequence
	// Until ends the feed at that position. 0: it follows the Log without end.
	Until event.Sequence
	// HeadersOnly leaves out the bodies.
	HeadersOnly bool
	// NoHeaders lets a feed leave out the headers if that is faster.
	NoHeaders bool

	// scattered: most messages on Subjects have a subject of their own, as guards do. The
	// engine finds the next one by going through all subjects of a block.
	Scattered bool
	// where lets the host leave out further messages, beyond Subjects.
	Where Where
	// plain: do not ask the host; first: until the feed begins again.
	plain, first bool
}

// Message is one stored message, unparsed.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	Seq     event.Sequence
	Stored  time.Time // the server's clock
	// Pending is the number of matching messages after this one when it was sent; 0:
	// caught up. A message that the host found in its index has 1, since the host does
	// not know the number.
	Pending uint64

	Copies []string // the nodes whose copies the feed has read so far, where it cannot see gaps
}

const (
	feedMessages  = 1000   // the fewest requested at once
	feedCatchUp   = 10_000 // the most, for a reader with so many left
	feedBytes     = 32 << 20
	feedHeartbeat = 2 * time.Second
	// The server removes the consumer of a dead reader after this time.
	consumerIdle = 30 * time.Second
	// The end of a feed waits at most this long for the server to remove its consumer.
	dropTimeout = time.Second
)

// Feed yields stored messages in the order of the Log, each once, without gaps. It
// continues through reconnects and restarts: it knows its position, and creates its
// consumer again from there. If the server admits no more readers, it waits. The context
// or a break ends it; its last error is then the context's. A *event.DamageError ends it
// if the Log has lost a message that it would yield or may have yielded; on a cluster
// only if no replica that it tries is whole.
//
// Calls may overlap. Each range over a result is a feed of its own that begins at After,
// with its own consumer on the server.
func (l *Log) Feed(ctx context.Context, cfg FeedConfig) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f := &feed{log: l, cfg: cfg, at: cfg.After, plain: cfg.plain, counting: counting{patience: stallTime}}
		for {
			before := f.at
			done, err := f.attempt(ctx, yield)
			if done && err == nil {
				return
			}
			if err := f.again(ctx, err, done, f.at > before); err != nil {
				yield(Message{}, fmt.Errorf("client: read the Log: %w", err))
				return
			}
		}
	}
}

type feed struct {
	log     *Log
	cfg     FeedConfig
	only    []string       // the subjects to yield, of everything that is read; nil: all
	at      event.Sequence // the last position that was read
	begun   bool           // a consumer was created before
	past    bool           // the end of a bounded feed was passed
	stopped bool           // the reader has stopped
	plain   bool           // the host's index cannot help this feed

	counting
	failures
}

// failures is the record of the consumers that have failed.
type failures struct {
	backoff wait.Backoff
	told    telling
	missing time.Time // since when the Log does not exist
	last    error     // of the last consumer
	tries   int       // number of damaged replicas met
}

// attempt reads with one consumer. At the end of a bounded feed it checks that nothing is
// missing.
func (f *feed) attempt(ctx context.Context, yield func(Message, error) bool) (done bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	done, err = f.run(ctx, yield)
	if done && err == nil && f.bounded() && !f.stopped {
		err = f.log.Verify(ctx, f.read, f.cfg.After, f.cfg.Until)
	}
	return done, err
}

// again handles the failure of a consumer, and waits until the feed may create another
// one. It returns the error that ends the feed, or nil. moved means that the consumer has
// advanced the feed.
func (f *feed) again(ctx context.Context, err error, done, moved bool) error {
	if moved {
		f.tries = 0
	}
	if damage, damaged := asDamage(err); damaged {
		if done || !f.log.clustered || damage.From <= f.at || f.tries >= otherReplicas {
			f.tellHost(ctx)
			return err
		}
		f.tries++ // another replica may have the message
	} else if err := f.hopeless(ctx, err); err != nil {
		return err
	}
	if why := f.log.beyondHope(); why != nil {
		return why
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		f.missing = time.Time{}
	}
	if moved {
		f.backoff.Reset()
		f.told = telling{}
	}
	f.last = err
	f.told.wait(f.log, "a reader", err)
	f.log.cfg.Logger.Debug("feed: making the consumer anew", "seq", f.at, "err", err)
	f.log.pause(ctx, &f.backoff)
	return nil
}

// tellHost makes a single host check the damage that the feed met, so that the host knows
// at once.
func (f *feed) tellHost(ctx context.Context) {
	if f.log.clustered {
		return
	}
	brief, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	_, _ = f.log.checked(brief, "") // the Log is damaged, whatever the answer
}

// hopeless returns the error that ends the feed if another consumer would fail too; else
// nil.
func (f *feed) hopeless(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		if errors.Is(f.last, event.ErrTooManyReaders) {
			return f.log.inVain(ctx.Err(), f.last)
		}
		return ctx.Err()
	case f.log.nc.IsClosed():
		return f.log.closed()
	case errors.Is(err, event.ErrOtherLog), errors.Is(err, event.ErrNoLog):
		return err
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if f.missing.IsZero() {
			f.missing = time.Now()
		} else if time.Since(f.missing) > logPatience {
			return event.ErrNoLog
		}
	case final(err):
		return err
	}
	return nil
}

// bounded reports whether the feed has an end.
func (f *feed) bounded() bool { return f.cfg.Until != 0 }

// ended reports whether a bounded feed has read up to its end.
func (f *feed) ended() bool { return f.bounded() && f.at >= f.cfg.Until }

// run asks the host's index, and then reads with one consumer until that fails or the
// feed is done.
func (f *feed) run(ctx context.Context, yield func(Message, error) bool) (done bool, err error) {
	if f.ended() {
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
		if f.ended() {
			return true, nil
		}
	}
	cons, pending, err := f.begin(ctx)
	if err != nil {
		return false, err
	}
	defer f.drop(ctx, cons)
	f.serves(cons, pending)
	if f.bounded() && pending == 0 && !f.log.clustered {
		return true, f.whole(f.cfg.Until)
	}
	// alive ends with ctx, and with the connection: a server that comes back has
	// forgotten the consumer. It has no deadline, which would become the requests'.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, end)()
	defer context.AfterFunc(life, end)()
	r := newReading(f, cons, pending, yield)
	defer r.end()
	return r.run(ctx, alive)
}

// begin creates a consumer: one of everything if that is faster (see dense).
func (f *feed) begin(ctx context.Context) (cons jetstream.Consumer, pending uint64, err error) {
	cons, pending, err = f.consumer(ctx)
	if err != nil || !f.dense(pending) {
		return cons, pending, err
	}
	f.drop(ctx, cons)
	f.only, f.cfg.Subjects = f.cfg.Subjects, nil
	return f.consumer(ctx)
}

const (
	denseFrom = 500 // messages
	densePart = 16
)

// dense reports whether it is faster to read everything than to let the engine search:
// among 14,000 messages it took 500 ms to find 4,000 guards and their events, and takes
// 50 ms to send all.
func (f *feed) dense(pending uint64) bool {
	return f.cfg.Scattered && len(f.cfg.Subjects) > 0 && f.cfg.Until != 0 && pending >= denseFrom &&
		uint64(f.cfg.Until-f.at) <= densePart*pending
}

// take processes one message, which must be the consumer's next, and returns how many
// more the server had when it sent it. It sets past after the end of a bounded feed, and
// stopped when the reader stops.
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
	if seq > f.at { // a consumer created beyond the end starts at the end
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

// sameLog checks that a feed that begins again reads the same Log as before. In another
// one its position would mean nothing, and the feed would skip everything before it.
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
	// A creation that is given up half-way leaves its consumer behind, so wait for the
	// answer, within bounds, when ctx ends meanwhile.
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

// drop removes the consumer from the server. If that fails, the server removes it after
// consumerIdle.
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

// outlive returns a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}

// mayDelete reports whether this key may remove consumers from the server.
func (l *Log) mayDelete() bool {
	return !l.rights.Limited || l.rights.May.Prefix() != roles.APIPrefix
}

// idle is how long a consumer may be unread before the server removes it: soon, if
// nothing else removes it.
func (l *Log) idle() time.Duration {
	if l.mayDelete() {
		return consumerIdle
	}
	return 5 * time.Second
}
