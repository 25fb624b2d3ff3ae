// Package broker runs the project's broker inside this process: a nats-server on
// the loopback, with one JetStream stream, the Log, that is synced to disk before
// anything is acknowledged.
//
// Two servers on one store would lose events, and nats-server itself has no lock:
// a Broker holds an flock from before the server starts until after it has
// stopped. The lock dies with the process, so a killed host leaves no trace that
// anyone must clean up.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/address"
	"durablestream/internal/copywatch"
	"durablestream/internal/diskwatch"
	"durablestream/internal/finder"
	"durablestream/internal/gate"
	"durablestream/internal/grace"
	"durablestream/internal/joined"
	"durablestream/internal/logend"
	"durablestream/internal/paths"
	"durablestream/internal/redirect"
	"durablestream/internal/scrub"
	"durablestream/internal/serverlog"
	"durablestream/internal/slowstart"
	"durablestream/internal/wire"
)

// LockedError says that another process hosts this log.
type LockedError struct {
	Path string // of the lock
	PID  int    // of the holder, where it is proven to be a process of this machine; 0 if not
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("broker: %s is held by another process: join its log, or stop it first", e.Path)
	}
	return fmt.Sprintf("broker: %s is held by process %d: join its log, or stop it first", e.Path, e.PID)
}

// ErrRestoring is a Log whose restore was begun and did not end.
var ErrRestoring = wire.ErrRestoring

// held keeps every lock reachable until it is released: an *os.File that the
// garbage collector finds is closed, and with it goes the lock (that is how
// 33,707 acknowledged events were once lost).
var held sync.Map // *flock.Flock → struct{}

// Broker is a running server with its Log. Calls of its methods may overlap, with these
// exceptions: calls of Advertise, Isolate, RecreateLog and SetKeys may overlap neither with
// each other nor with Stop. Calls of Stop may overlap with each other.
type Broker struct {
	cfg       Config
	opts      *server.Options
	locks     []*flock.Flock
	server    *server.Server
	log       *serverlog.Log
	switching sync.RWMutex // written while a node's JetStream is switched off or on, which the engine does not guard from its own monitoring
	admin     *nats.Conn   // in process, for the Log's configuration and the disk watch
	js        jetstream.JetStream
	token     string // of our own connections
	joinToken string // in the address file; "": each shows a key, or nothing
	since     time.Time
	end       *logend.End
	appends   redirect.Appends
	disk      *diskwatch.Watch
	scrub     *scrub.Scrub
	copy      *copywatch.Watch // nil on a lone host
	finder    *finder.Finder
	gate      *gate.Gate  // nil where keys do not publish by way of it
	known     scrub.Known // by checkStore
	ads       advertiser
	place     placed
	prover    *address.Prover
	identity  atomic.Pointer[string] // of the Log
	telling   *slowstart.Start       // until Advertise

	store     *os.File // the store's directory
	storeInfo os.FileInfo
	evicted   chan struct{}

	evictOnce  sync.Once
	whyEvicted error // before evicted is closed

	stopOnce sync.Once
	stopped  chan struct{} // made by the first Stop, closed when everything has stopped
	stopErr  error         // before stopped is closed
}

// Start takes the lock, starts the server, and creates or checks the Log.
//
// It returns a *LockedError where another process has the lock, a *NoLogError where
// Config.NoCreate forbids to create the Log or where there was one, a *ManagedError or
// *LoneStoreError for a store that is hosted otherwise, a *MetaLostError for a node's
// store that the engine would delete, ErrRestoring for a Log that is not whole, an
// *event.NewerFormatError for one of a later version, and an *event.WeakLogError for one with
// a configuration that promises less than ours. A node of a cluster waits for the others
// as long as ctx lasts; Config.Waiting hears for what. The start of a lone host's engine
// is waited for as long as it takes, whatever deadline ctx has: it would only begin again.
// After an error nothing runs and the lock is free; where ctx was canceled during the start
// of the engine, only once that has ended.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b, err := boot(ctx, cfg)
	return b, cannotHost(cfg.Dir, err)
}

// boot is Start for a Config with its defaults.
func boot(ctx context.Context, cfg Config) (*Broker, error) {
	secret := rand.Text()
	if cfg.gated() {
		cfg.gate = rand.Text()
	}
	opts, err := cfg.options(secret)
	if err != nil {
		return nil, err
	}
	if err := cfg.prepareDir(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, opts: opts, token: opts.Authorization, since: time.Now(), evicted: make(chan struct{})}
	b.end = b.newEnd()
	if len(cfg.Keys) > 0 {
		b.token = secret
	} else if b.token != "" {
		b.joinToken = rand.Text()
		opts.Authorization, opts.CustomClientAuthentication = "", joined.NewEntry(b.token, b.joinToken)
	}
	if err := b.takeLock(); err != nil {
		return nil, err
	}
	if cfg.Cluster == nil { // a node waits for others, mostly, and says so itself
		b.telling = slowstart.Tell(filepath.Join(cfg.Dir, StartingFile), cfg.Waiting)
	}
	err = Shortage(cfg.Dir)
	if err == nil {
		err = b.notRepaired()
	}
	if err == nil {
		err = cfg.expected() // again: until there was the lock, anything could happen
	}
	if err == nil && !cfg.ReadOnly { // the links of a copy are its maker's
		err = CheckLinks(cfg.Dir)
	}
	if err == nil && !cfg.ReadOnly {
		err = b.ownFiles()
	}
	if err == nil {
		err = cfg.claim()
	}
	if err == nil {
		err = b.openStore()
	}
	if err == nil {
		b.removeProbes()
		err = b.moveAccount()
	}
	if err == nil {
		err = b.settleStore()
	}
	if err == nil {
		err = b.demandHeld()
	}
	if err == nil {
		err = b.giveStaged()
	}
	if err == nil {
		err = b.checkMeta()
	}
	if err == nil {
		err = b.forgetUnwritten()
	}
	if err == nil {
		err = b.checkStore()
	}
	if err == nil {
		err = b.startServer(ctx, opts)
	}
	if cfg.Cluster == nil { // a node waits for the others as long as ctx lasts
		graced, done := grace.Context(ctx, startGrace)
		defer done()
		ctx = graced
	}
	switch {
	case err != nil:
	case cfg.Cluster != nil:
		err = b.openClusterLog(ctx)
	default:
		err = b.openLog(ctx)
	}
	if err == nil {
		err = b.lookAtEnd(ctx)
	}
	if err == nil {
		err = b.settleIdentity(ctx)
	}
	if err == nil {
		err = b.answerRestores()
	}
	if err == nil {
		err = b.prove()
	}
	if err != nil {
		return nil, errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
	}
	if b.disk, err = b.watchDisk(); err != nil {
		return nil, errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
	}
	if cfg.Cluster != nil {
		b.copy = watchCopy(b)
	}
	if err = b.startScrub(ctx); err != nil {
		return nil, errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
	}
	if err = b.startFinder(); err != nil {
		return nil, errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// prepareDir makes the host's directory, or, where nothing may be created or a certain
// Log is expected in it, only looks for that.
func (c Config) prepareDir() error {
	if err := address.CheckOwner(c.Dir); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if c.Expect != "" {
		return c.expected()
	}
	if err := c.prepare(); err != nil {
		return err
	}
	return address.Tighten(c.Dir)
}

func makeDir(dir string) error {
	if err := paths.MakeHostDir(dir); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// takeLock takes the lock, and that of the store's directory itself: a lock file
// that somebody removed would let a second host have another one.
func (b *Broker) takeLock() error {
	if err := noLinks(b.cfg.Dir, LockFile, repairFile, StoreDir); err != nil {
		return err
	}
	store := filepath.Join(b.cfg.Dir, StoreDir)
	if b.cfg.Expect == "" {
		if err := os.MkdirAll(store, 0o700); err != nil {
			return fmt.Errorf("broker: cannot make the store: %w", err)
		}
	}
	if err := b.ownLockFile(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("broker: %w", err)
	}
	for _, lock := range []*flock.Flock{
		flock.New(filepath.Join(b.cfg.Dir, LockFile), flock.SetPermissions(0o600)),
		flock.New(store, flock.SetFlag(os.O_RDONLY)),
	} {
		ok, err := tryLock(lock)
		if err != nil {
			return errors.Join(fmt.Errorf("broker: cannot lock the store: %w", err), b.unlock())
		}
		if !ok {
			a, _ := address.Read(AddressPath(b.cfg.Dir)) // only to name the holder
			return errors.Join(&LockedError{lock.Path(), address.Holder(b.cfg.Dir, a.PID)}, b.unlock())
		}
		held.Store(lock, struct{}{})
		b.locks = append(b.locks, lock)
	}
	return nil
}

// tryLock takes a lock that nobody has. Who only looks whether somebody hosts shares it
// for a moment, and does not count.
func tryLock(lock *flock.Flock) (ok bool, err error) {
	for range 100 {
		if ok, err = lock.TryLock(); ok || err != nil {
			return ok, err
		}
		shared, err := lock.TryRLock()
		if err != nil || !shared {
			return false, err
		}
		if err := lock.Unlock(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// unlock lets go of the locks in the reverse order.
func (b *Broker) unlock() (err error) {
	for _, lock := range slices.Backward(b.locks) {
		err = errors.Join(err, lock.Unlock())
		held.Delete(lock)
	}
	b.locks = nil
	return err
}

func (b *Broker) startServer(ctx context.Context, opts *server.Options) error {
	// The server says why it cannot start only to its logger.
	log := serverlog.New(b.cfg.Logger)
	b.log = log
	s, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	s.SetLoggerV2(log, false, false, false)
	if err := b.holdAppends(s); err != nil {
		return err
	}
	b.estimate()
	if err := b.runEngine(ctx, s); err != nil {
		return err
	}
	if why := log.Fatal(); why != "" {
		return fmt.Errorf("broker: the server did not start (listen %s, store %s): %s", b.cfg.Listen, b.cfg.Dir, why)
	}
	if !s.ReadyForConnections(30 * time.Second) {
		return fmt.Errorf("broker: the server was not ready within 30 s (listen %s, store %s) %s", b.cfg.Listen, b.cfg.Dir, log.Fatal())
	}
	b.admin, err = b.Connect(nats.Name("dstream host"))
	if err != nil {
		return err
	}
	b.js, err = jetstream.New(b.admin)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.end.JS = b.js
	return b.startGate()
}

// startGate begins to take in what keys publish on a node.
func (b *Broker) startGate() (err error) {
	if !b.cfg.gated() {
		return nil
	}
	if b.gate, err = gate.Start(b.cfg.gate, b.cfg.gateMost, b.Connect, b.cfg.Logger); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

func (b *Broker) checkLog(ctx context.Context) error {
	want := wire.LogWant{Window: b.cfg.DuplicateWindow, Restoring: b.cfg.Restoring}
	if c := b.cfg.Cluster; c != nil {
		// A half restored one needs its nodes, to be finished.
		want.Replicas, want.Restoring = c.Replicas, true
	}
	if _, err := wire.FindLog(ctx, b.js, want); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// Connect makes a connection within this process. Whoever calls it closes it.
func (b *Broker) Connect(opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{nats.InProcessServer(b.server), b.credentials(), nats.ReconnectBufSize(-1),
		// Not to be guessed from what this process has written: see package roles.
		nats.CustomInboxPrefix("_INBOX." + rand.Text())}, opts...)
	nc, err := nats.Connect("", opts...)
	if err != nil {
		return nil, fmt.Errorf("broker: cannot connect to the broker in this process: %w", err)
	}
	return nc, nil
}

// Name is the server's.
func (b *Broker) Name() string { return b.cfg.Name }

// ClientURL is where clients connect: nats://HOST:PORT, or tls://.
func (b *Broker) ClientURL() string { return b.server.ClientURL() }

// AddressFile is what Advertise writes to the address file: a JSON object.
func (b *Broker) AddressFile() ([]byte, error) { return json.Marshal(b.address()) }

// address is what the address file says: how other processes reach this broker.
func (b *Broker) address() address.Address {
	return address.Address{
		URL:      b.ClientURL(),
		Token:    b.joinToken,
		PID:      os.Getpid(),
		Format:   wire.Format,
		Version:  b.cfg.Version,
		Since:    b.since.UnixMilli(),
		ServerID: b.server.ID(),
		Prove:    b.prover.Addr(),
	}
}
