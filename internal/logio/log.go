// Package logio moves messages to and from the Log over one connection. It knows no rules
// of checkpoints, intents or imports: those are package client's, which hands it finished
// messages and reads back what is stored.
//
// A publish returns when the message is durable, and tries again as long as its context
// lasts. A feed brings what is stored in order and without gaps, across reconnects and
// restarts of the broker. Its errors bear the prefix of package client, through which a
// program meets them.
package logio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/dial"
	"durablestream/internal/wire"
)

// Config says how to open a Log. The zero value works.
type Config struct {
	// Restoring opens a Log whose restore has not ended. Default: such a one is
	// refused with wire.ErrRestoring.
	Restoring bool
	// Logger hears of retries. Default: discarded.
	Logger *slog.Logger
	// Why tells what the owner knows of why the Log does not answer, nil if nothing:
	// it goes into the errors of calls whose context ended first. Default: none.
	Why func() error
	// OwnHost says that the server is a host of ours, which answers whether its store is
	// whole. A server that is not ours has nobody who could.
	OwnHost bool
	// MayStore refuses, before anything is sent, what the server would refuse without an
	// answer: it gets the subject of each message. Default: nothing is refused.
	MayStore func(subject string) error
}

// Log publishes to one Log and reads it. Its methods may be called from any number of
// goroutines. Whoever made the connection closes it, after the Log.
type Log struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	rights  dial.Rights
	conn    *connWatch
	window  time.Duration // the Log's duplicate window; 0 until Open knows it
	created time.Time     // when the Log was made
	// identity tells the Log from every other, also from a copy.
	identity string
	// clustered: the Log has replicas, any of which may feed a consumer.
	clustered bool

	stream  atomic.Pointer[jetstream.Stream] // a handle; set by Open
	known   atomic.Uint64                    // the highest Sequence that was seen here
	barrier *barriers
	anchor  atomic.Pointer[string] // see anchorSubject
	moved   atomic.Int64           // when it last went to another server, Unix ns

	group      *groupCommit
	settled    *settled
	apiPlaces  places
	findPlaces places
	checks     sync.Map // a node → *sharing[[]event.Range]: how its files are asked for

	// What is known of damage, as of the last answer about the Log.
	begins  atomic.Uint64 // the first Sequence that the Log can hold
	marks   atomic.Pointer[map[string][]event.Range]
	deleted atomic.Pointer[deletions]
}

// Open opens the Log behind nc, whose key has these rights. It asks the server about the
// Log once: event.ErrNoLog where there is none, *wire.NewerFormatError for one of a later
// version.
func Open(ctx context.Context, nc *nats.Conn, rights dial.Rights, cfg Config) (*Log, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.MayStore == nil {
		cfg.MayStore = func(string) error { return nil }
	}
	js, err := rights.JetStream(nc)
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, nc: nc, js: js, rights: rights, conn: watchConn(nc), barrier: newBarriers(), group: newGroupCommit(), settled: newSettled(),
		apiPlaces: make(places, apiAtOnce), findPlaces: make(places, findAtOnce),
	}
	info, err := l.Info(ctx)
	if err == nil {
		err = wire.CheckLog(info.Config, 1)
	}
	if err == nil && wire.IsRestoring(info.Config) && !cfg.Restoring {
		err = wire.ErrRestoring
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	l.identity = wire.Identity(info.Created, info.Config)
	l.window, l.created, l.clustered = info.Config.Duplicates, info.Created, info.Config.Replicas > 1
	if l.clustered {
		// The handle then reads single messages from the leader. A direct get is
		// answered by any replica: one that lags says of what was acknowledged that
		// it is not there, and here "not there" decides.
		(*l.stream.Load()).CachedInfo().Config.AllowDirect = false
	}
	return l, nil
}

// Close ends the watch over the connection, which stays open. Calls that are under way go
// on, and notice a lost connection later.
func (l *Log) Close() { l.conn.stop() }

// Identity tells this Log from every other.
func (l *Log) Identity() string { return l.identity }

// Clustered reports whether the Log has replicas, any of which may feed a reader.
func (l *Log) Clustered() bool { return l.clustered }

// attemptTimeout bounds one try of a publish. A late answer does no harm, since
// the next try has the same id.
const attemptTimeout = 5 * time.Second

// logPatience is how long a Log that was there before may be missing: a host that
// restarts its engine over a full disk knows no stream until it has recovered it.
const logPatience = 10 * time.Second

// Position is the last settled Sequence of the Log (see settled), of an event or a guard; 0
// where the Log is empty. On a single host it is linearizable. On a cluster it is at least
// what this Log has published or read: an answer below that comes from a leader that has been
// replaced and does not know it yet, and is asked for again. Barrier gives a position that is
// linearizable.
func (l *Log) Position(ctx context.Context) (event.Sequence, error) {
	var wait backoff
	for {
		known := event.Sequence(l.known.Load())
		info, err := l.Info(ctx)
		if err != nil {
			return 0, err
		}
		last := event.Sequence(info.State.LastSeq)
		if last >= known || !l.clustered || !info.Created.Equal(l.created) {
			return l.boundary(ctx, last)
		}
		if !wait.sleep(ctx) {
			return 0, fmt.Errorf("the leader of the Log answers with sequence %s, and this client has seen %s: it is cut off from the other nodes, or the cluster has lost events: %w",
				last, known, ctx.Err())
		}
	}
}

// Fence returns when what was published before it is stored, and nil then: the Log
// takes messages in turn, and answers this one, which asks for a position that no Log
// has, after those before it. Nothing is stored. A Log that is stuck does not answer.
func (l *Log) Fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	m := wire.EncodeGuard(wire.GuardSubject(event.GuardBarrier, "fence"), nil)
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := l.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// Info asks the engine about the Log, and takes in what the answer says of damage.
func (l *Log) Info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := l.retry(ctx, func(ctx context.Context) error {
		s, err := l.js.Stream(ctx, wire.LogName)
		if err == nil {
			info = s.CachedInfo()
			l.learn(ctx, s, info)
			l.stream.CompareAndSwap(nil, &s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the Log's state: %w", err)
	}
	l.sawSequence(event.Sequence(info.State.LastSeq))
	return info, nil
}

func (l *Log) sawSequence(s event.Sequence) {
	for {
		old := l.known.Load()
		if uint64(s) <= old || l.known.CompareAndSwap(old, uint64(s)) {
			return
		}
	}
}
