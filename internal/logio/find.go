package logio

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// Where narrows a feed beyond its subjects, as far as the host's index can. The reader
// still checks each event.
type Where struct {
	Actor, Correlation string
	Since, Until       int64 // Unix ms
	Limit              int   // of matching events, after which the host may stop
}

// asksHost reports whether it may be useful to ask the host.
func (f *feed) asksHost() bool {
	l := f.log
	return !f.plain && !f.cfg.HeadersOnly &&
		len(l.Damaged()) == 0 && // a damaged log is read through the engine
		(!l.rights.Limited || l.rights.May.MayPublish(wire.FindSubject)) // otherwise a key of an older version
}

// find yields the messages that a host of ours finds by its index, which covers the Log
// from its beginning up to some position. The feed continues with a consumer from there;
// without such a host, it does so at once. (See package finder.)
//
// What was left out because a file is damaged shows as in any feed with a filter: a
// bounded feed asks the host about that at its end.
func (f *feed) find(ctx context.Context, yield func(Message, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, 1)
	ask := func(after event.Sequence) {
		m, err := f.log.askHost(ctx, f.question(after))
		answers <- answer{m, err}
	}
	go ask(f.at)
	for {
		a := <-answers
		if a.err != nil {
			f.plain = !errors.Is(a.err, context.Canceled) // a lost connection; the feed begins again
			return ctx.Err()
		}
		if a.Through <= f.at {
			return nil
		}
		if !f.everything() && !slices.Contains(f.read, a.Node) {
			f.read = append(slices.Clone(f.read), a.Node)
		}
		if a.More { // the host searches on while the reader reads this answer
			go ask(a.Through)
		}
		settled, err := f.settled(ctx, a.Through)
		if err != nil {
			return err
		}
		for _, s := range a.Messages {
			if s.Seq > settled {
				break // the engine sends it when it is committed
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if s.Seq <= f.at || s.Seq > a.Through || f.everything() && s.Seq != f.at+1 {
				f.plain = true // the answer cannot be trusted
				return nil
			}
			m := Message{Subject: s.Subject, Data: s.Data, Seq: s.Seq, Stored: time.Unix(0, s.Time), Pending: 1, Copies: f.read}
			if len(s.Header) > 0 {
				var err error
				if m.Header, err = nats.DecodeHeadersMsg(s.Header); err != nil {
					f.plain = true
					return nil
				}
			}
			f.at = s.Seq
			f.log.sawSequence(s.Seq)
			if !yield(m, nil) {
				f.stopped = true
				return nil
			}
		}
		f.at = max(f.at, min(a.Through, settled))
		if !a.More || settled < a.Through {
			return nil
		}
	}
}

// settled returns through if it is settled, else the last position that is known to be.
func (f *feed) settled(ctx context.Context, through event.Sequence) (event.Sequence, error) {
	ok, err := f.log.settle(ctx, through)
	if ok {
		return through, nil
	}
	return event.Sequence(f.log.settled.upTo.Load()), err
}

// everything reports whether the feed yields all messages, so that gaps show.
func (f *feed) everything() bool {
	w := f.cfg.Where
	w.Limit = 0
	return len(f.wants()) == 0 && w == Where{}
}

// wants returns the subjects that the feed yields; none: all. A feed that reads
// everything to find them (see dense) does not need it.
func (f *feed) wants() []string {
	if f.only != nil {
		return f.only
	}
	return f.cfg.Subjects
}

// answer is the host's answer, or the reason why there is none.
type answer struct {
	wire.Found
	err error
}

func (f *feed) question(after event.Sequence) wire.Find {
	w := f.cfg.Where
	return wire.Find{
		Log: f.log.created.UnixNano(), After: after, Until: f.cfg.Until, Subjects: f.wants(),
		Actor: w.Actor, Correlation: w.Correlation, Since: w.Since, Before: w.Until, Limit: w.Limit, NoHeaders: f.cfg.NoHeaders,
	}
}

// askHost asks one question, and retries if the host is busy. If nobody answers, there is
// no host of ours, or one of an older version.
func (l *Log) askHost(ctx context.Context, q wire.Find) (wire.Found, error) {
	ctx, leave, err := l.findPlaces.enter(ctx)
	if err != nil {
		return wire.Found{}, err
	}
	defer leave()
	for {
		attempt, cancel := l.attempt(ctx)
		m, err := l.nc.RequestWithContext(attempt, wire.FindSubject, q.Encode())
		cancel()
		if err != nil {
			return wire.Found{}, err
		}
		retry, busy := wire.Busy(m)
		if !busy {
			return wire.DecodeFound(m)
		}
		if err := busyFor(ctx, retry); err != nil {
			return wire.Found{}, err
		}
	}
}

// busyFor waits as long as a busy host asks for, and up to as long again, so that not all
// callers return at once.
func busyFor(ctx context.Context, d time.Duration) error { return wait.For(ctx, d+rand.N(d)) }
