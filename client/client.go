// Package client appends to the Log and reads it, over any NATS connection.
//
// An append returns when the event is durable, and tries again as long as its
// context lasts. Reads are iterators: they catch up from a Sequence, in order and
// without gaps, across reconnects and restarts of the broker.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Config says what a Client fills in. The zero value works.
type Config struct {
	// CorrelationID is given to events that have none. Default: a new UUIDv7.
	CorrelationID string
	// StreamID is given to events that have none. Default: none, and an event
	// without a stream is refused.
	StreamID string
	// Worktree is the name of the git work tree that this client works for, if it is a
	// linked one: events whose metadata has no such key get it (event.MetadataWorktree).
	// Default: none.
	Worktree string
	// Restoring opens a Log whose restore has not ended. Default: such a one is
	// refused with wire.ErrRestoring.
	Restoring bool
	// Logger hears of retries and of messages that are set aside. Default: discarded.
	Logger *slog.Logger
	// Why tells what the owner knows of why the Log does not answer, nil if nothing:
	// it goes into the errors of calls whose context ended first. Default: none.
	Why func() error
	// OwnHost says that the server is a host of ours, which answers whether its store is
	// whole. A server that is not ours has nobody who could.
	OwnHost bool
}

// Client reads and writes one Log. Its methods may be called from any number of
// goroutines. Whoever made the connection closes it, after the client.
type Client struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	rights  rights
	window  time.Duration // the Log's duplicate window
	conn    *connWatch
	created time.Time // when the Log was made
	// identity tells the Log from every other, also from a copy.
	identity string
	// clustered: the Log has replicas, any of which may feed a consumer.
	clustered bool

	log      atomic.Pointer[jetstream.Stream] // a handle; set by New
	known    atomic.Uint64                    // the highest Sequence that this client has seen
	barrier  *barriers
	anchor   atomic.Pointer[string] // see anchorSubject
	handlers sync.Map               // *Handler → struct{}: those of On that run
	imports  imports
	setAside atomic.Uint64 // messages on events.> that are no events
	moved    atomic.Int64  // when it last went to another server, Unix ns

	joins   *joins
	settled *settled
	api     line
	finds   line
	checks  sync.Map // a node → *sharing[[]wire.Range]: how its files are asked for

	// What is known of damage, as of the last answer about the Log.
	begins  atomic.Uint64 // the first Sequence that the Log can hold
	marks   atomic.Pointer[map[string][]wire.Range]
	deleted atomic.Pointer[deletions]
}

// attemptTimeout bounds one try of a publish. A late answer does no harm, since
// the next try has the same id.
const attemptTimeout = 5 * time.Second

// logPatience is how long a Log that was there before may be missing: a host that
// restarts its engine over a full disk knows no stream until it has recovered it.
const logPatience = 10 * time.Second

// New makes a Client over nc. It asks the server about the Log once: ErrNoLog
// where there is none, *wire.NewerFormatError for one of a later version.
func New(ctx context.Context, nc *nats.Conn, cfg Config) (*Client, error) {
	if cfg.CorrelationID == "" {
		cfg.CorrelationID = event.NewID()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	rights, err := askRights(ctx, nc)
	if err != nil {
		return nil, err
	}
	js, err := rights.jetStream(nc)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{cfg: cfg, nc: nc, js: js, rights: rights, conn: watchConn(nc), barrier: newBarriers(), joins: newJoins(), settled: newSettled(), api: make(line, apiAtOnce), finds: make(line, findAtOnce)}
	info, err := c.info(ctx)
	if err == nil {
		err = wire.CheckLog(info.Config, 1)
	}
	if err == nil && wire.IsRestoring(info.Config) && !cfg.Restoring {
		err = wire.ErrRestoring
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("client: %w", err)
	}
	c.identity = wire.Identity(info.Created, info.Config)
	c.window, c.created, c.clustered = info.Config.Duplicates, info.Created, info.Config.Replicas > 1
	if c.clustered {
		// The handle then reads single messages from the leader. A direct get is
		// answered by any replica: one that lags says of what was acknowledged that
		// it is not there, and here "not there" decides.
		(*c.log.Load()).CachedInfo().Config.AllowDirect = false
	}
	return c, nil
}

// Close ends the handlers of On and the client's watch over its connection, which
// stays open. Calls that are under way go on, and notice a lost connection later.
func (c *Client) Close() {
	c.handlers.Range(func(h, _ any) bool { h.(*Handler).Off(); return true })
	c.conn.stop()
}

// Identity tells the Log of this client from every other.
func (c *Client) Identity() string { return c.identity }

// CorrelationID is what this client gives to events that have none.
func (c *Client) CorrelationID() string { return c.cfg.CorrelationID }

// SetAside counts the messages on events.> that this client met and that are not
// events: something other than a Durable Stream client wrote them.
func (c *Client) SetAside() uint64 { return c.setAside.Load() }

// Position is the last Sequence of the Log, of an event or a guard; 0 where the
// Log is empty. On a single host it is linearizable. On a cluster it is at least
// what this client has appended or read; Barrier gives one that is linearizable.
func (c *Client) Position(ctx context.Context) (event.Sequence, error) {
	return c.position(ctx)
}

// Fence returns when what was published before it is stored, and nil then: the Log
// takes messages in turn, and answers this one, which asks for a position that no Log
// has, after those before it. Nothing is stored. A Log that is stuck does not answer.
func (c *Client) Fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	m := wire.EncodeGuard(wire.GuardSubject(wire.GuardBarrier, "fence"), nil)
	m.Header.Set(wire.HeaderExpectedLast, "9223372036854775807")
	_, err := c.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// State is what the engine says of the Log.
type State struct {
	First, Last event.Sequence // Last is 0 for an empty Log
	Messages    uint64         // events and guards
	Missing     uint64         // positions between First and Last that hold nothing: damage
	Bytes       uint64         // on disk
	Consumers   int            // readers' places on the server, of this client and others
	Created     time.Time
	Config      jetstream.StreamConfig

	// Of a cluster, else empty. Leader is "" while there is none.
	Cluster  string
	Leader   string
	Replicas []Replica // with the leader, in the order of their names
}

// Replica is a node's copy of the Log.
type Replica struct {
	Name    string        `json:"name"`
	Leader  bool          `json:"leader,omitempty"`
	Current bool          `json:"current"`           // it has what the leader has
	Offline bool          `json:"offline,omitempty"` // the leader does not hear it
	Lag     uint64        `json:"lag,omitempty"`     // operations behind the leader
	Seen    time.Duration `json:"seen,omitempty"`    // since the leader last heard it
}

func replicas(c *jetstream.ClusterInfo) []Replica {
	var out []Replica
	if c.Leader != "" {
		out = append(out, Replica{Name: c.Leader, Leader: true, Current: true})
	}
	for _, p := range c.Replicas {
		out = append(out, Replica{Name: p.Name, Current: p.Current && !p.Offline, Offline: p.Offline, Lag: p.Lag, Seen: p.Active})
	}
	slices.SortFunc(out, func(a, b Replica) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// State asks the engine about the Log.
func (c *Client) State(ctx context.Context) (State, error) {
	info, err := c.info(ctx)
	if err != nil {
		return State{}, err
	}
	s := State{
		First:     event.Sequence(info.State.FirstSeq),
		Last:      event.Sequence(info.State.LastSeq),
		Messages:  info.State.Msgs,
		Missing:   uint64(info.State.NumDeleted),
		Bytes:     info.State.Bytes,
		Consumers: info.State.Consumers,
		Created:   info.Created,
		Config:    info.Config,
	}
	if c := info.Cluster; c != nil && c.Name != "" {
		s.Cluster, s.Leader, s.Replicas = c.Name, c.Leader, replicas(c)
	}
	return s, nil
}

func (c *Client) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, wire.LogName)
		if err == nil {
			info = s.CachedInfo()
			c.learn(ctx, s, info)
			c.log.CompareAndSwap(nil, &s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the Log's state: %w", err)
	}
	c.sawSequence(event.Sequence(info.State.LastSeq))
	return info, nil
}

// retry calls f, which only reads, until it succeeds, the context ends, or the
// answer would not change.
func (c *Client) retry(ctx context.Context, f func(context.Context) error) error {
	var wait backoff
	var told telling
	patience := time.Now().Add(logPatience)
	if c.window == 0 { // New asks for the first time
		patience = time.Time{}
	}
	for {
		err := lostConnection(ctx, c.once(ctx, f))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return c.inVain(ctx.Err(), err)
		case c.nc.IsClosed():
			return c.closed()
		case errors.Is(err, jetstream.ErrStreamNotFound):
			if time.Now().After(patience) {
				return ErrNoLog
			}
		case final(err):
			return err
		}
		if why := c.beyondHope(); why != nil {
			return why
		}
		told.wait(c, "a read", err)
		if !c.pause(ctx, &wait) {
			return c.inVain(ctx.Err(), err)
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
func (c *Client) once(ctx context.Context, f func(context.Context) error) error {
	ctx, leave, err := c.api.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := c.attempt(ctx)
	defer cancel()
	return f(ctx)
}

// inVain is the error of a call whose context ended before an answer came: what was
// heard last, and what is known of why there is none.
func (c *Client) inVain(ended, last error) error {
	if last != nil && !errors.Is(ended, last) {
		ended = fmt.Errorf("%w (last: %w)", ended, last)
	}
	if c.cfg.Why != nil {
		if why := c.cfg.Why(); why != nil && !errors.Is(ended, why) {
			ended = fmt.Errorf("%w: %w", ended, why)
		}
	}
	return ended
}

// beyondHope is why a call is not worth waiting for: the log's end is damaged, and nobody
// hosts it until somebody has repaired it; or its directory has gone, or holds another log.
func (c *Client) beyondHope() error {
	if c.cfg.Why == nil {
		return nil
	}
	why := c.cfg.Why()
	if errors.Is(why, wire.ErrDamaged) || errors.Is(why, ErrGone) || errors.Is(why, ErrOtherLog) {
		return why
	}
	return nil
}

// gone is why an append is not worth waiting for: the Log's directory has gone, or holds
// another one.
func (c *Client) gone() error {
	why := c.beyondHope()
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

func (t *telling) wait(c *Client, what string, last error) {
	if t.since.IsZero() {
		t.since = time.Now()
	}
	if t.told {
		return
	}
	if c.cfg.Why != nil {
		if why := c.cfg.Why(); why != nil {
			last = why
			t.told = true
		}
	}
	if t.told = t.told || time.Since(t.since) > tellAfter; t.told {
		c.cfg.Logger.Warn(what+" waits for an answer", "err", last)
	}
}

// pause waits before the next try: a while, and as long as there is no connection.
// It reports whether there is to be one.
func (c *Client) pause(ctx context.Context, b *backoff) bool {
	if !b.sleep(ctx) {
		return false
	}
	for ctx.Err() == nil {
		brief, cancel := context.WithTimeout(ctx, hopeEvery)
		if c.conn.connected(brief) {
			*b = backoff{} // the host is a new one: what went before says nothing of it
		}
		waits := brief.Err() != nil
		cancel()
		if !waits || c.beyondHope() != nil { // there is an answer to be had, or none for long
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

func (c *Client) sawSequence(s event.Sequence) {
	for {
		old := c.known.Load()
		if uint64(s) <= old || c.known.CompareAndSwap(old, uint64(s)) {
			return
		}
	}
}

// backoff waits longer each time, up to a quarter of a second.
type backoff struct{ next time.Duration }

func (b *backoff) sleep(ctx context.Context) bool {
	const first, most = 2 * time.Millisecond, 250 * time.Millisecond
	b.next = min(max(b.next*2, first), most)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
