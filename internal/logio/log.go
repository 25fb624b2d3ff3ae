// Package logio moves messages to and from the Log over one connection. It knows no rules
// of checkpoints, intents or imports: package client has those. The client hands finished
// messages to logio, and reads back the stored ones.
//
// A publish returns when the message is durable, and retries until its context ends. A
// feed yields stored messages in order and without gaps, across reconnects and restarts
// of the broker. The errors have the prefix of package client, through which a program
// meets them.
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
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

// Config says how to open a Log. The zero value works.
type Config struct {
	// Restoring opens a Log whose restore has not ended. Default: Open refuses such a Log
	// with wire.ErrRestoring.
	Restoring bool
	// Logger gets retries. Default: discarded.
	Logger *slog.Logger
	// Why returns the reason why the Log does not answer, as far as the caller knows it,
	// else nil. Calls whose context ended first put the reason into their error. Default:
	// none.
	Why func() error
	// OwnHost says that the server is a host of ours, which reports whether its store is
	// whole. A server that is not ours cannot report that.
	OwnHost bool
	// MayStore refuses, before anything is sent, a message that the server would refuse
	// without an answer: it gets the subject of each message. Default: nothing is
	// refused.
	MayStore func(subject string) error
}

// Log publishes to one Log and reads it. Any number of goroutines may call its methods.
// The caller that made the connection closes it, after the Log.
type Log struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	rights  dial.Rights
	conn    *connWatch
	window  time.Duration // the Log's duplicate window; 0 until Open knows it
	created time.Time     // when the Log was created
	// identity distinguishes the Log from every other, also from a copy.
	identity string
	// clustered: the Log has replicas, any of which may feed a consumer.
	clustered bool

	stream  atomic.Pointer[jetstream.Stream] // a handle; set by Open
	known   atomic.Uint64                    // the highest Sequence that was seen here
	barrier *barriers
	anchor  atomic.Pointer[string] // see anchorSubject
	moved   atomic.Int64           // when it last switched to another server, Unix ns

	group      *groupCommit
	settled    *settled
	apiPlaces  places
	findPlaces places
	checks     sync.Map // a node → *sharing[[]event.Range]: the requests to check its files

	// The known damage, as of the last answer about the Log.
	begins  atomic.Uint64 // the first Sequence that the Log can hold
	marks   atomic.Pointer[map[string][]event.Range]
	deleted atomic.Pointer[deletions]
}

// Open opens the Log behind nc, whose key has these rights. It asks the server about the
// Log once. It returns event.ErrNoLog if the server has none, and *event.NewerFormatError
// for a Log of a later version.
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
		// The handle then reads single messages from the leader. Any replica answers a
		// direct get, and one that lags reports an acknowledged message as absent; here
		// "absent" decides.
		(*l.stream.Load()).CachedInfo().Config.AllowDirect = false
	}
	return l, nil
}

// Close ends the watch over the connection, and leaves the connection open. Calls in
// progress continue; they notice a lost connection later.
func (l *Log) Close() { l.conn.stop() }

// Identity distinguishes this Log from every other.
func (l *Log) Identity() string { return l.identity }

// Clustered reports whether the Log has replicas, any of which may feed a reader.
func (l *Log) Clustered() bool { return l.clustered }

// attemptTimeout bounds one attempt of a publish. A late answer is harmless, since the
// next attempt has the same id.
const attemptTimeout = 5 * time.Second

// logPatience is how long a Log that existed before may be missing: a host that restarts
// its engine over a full disk knows no stream until it has recovered it.
const logPatience = 10 * time.Second

// Position is the last settled Sequence of the Log (see settled), of an event or a guard;
// 0 if the Log is empty. On a single host it is linearizable. On a cluster it is at least
// the last position that this Log has published or read: a lower answer comes from a
// leader that has been replaced and does not know it yet, and Position asks again.
// Barrier returns a position that is linearizable.
func (l *Log) Position(ctx context.Context) (event.Sequence, error) {
	var backoff wait.Backoff
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
		if err := backoff.Wait(ctx); err != nil {
			return 0, fmt.Errorf("the leader of the Log answers with sequence %s, and this client has seen %s: it is cut off from the other nodes, or the cluster has lost events: %w",
				last, known, err)
		}
	}
}

// Fence returns nil when everything published before it is stored. The Log processes
// messages in turn, so it answers Fence's message, which asks for a position that no Log
// has, after those before it. Fence stores nothing. A Log that is stuck does not answer.
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

// Info asks the engine about the Log, and takes the damage from its answer.
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
