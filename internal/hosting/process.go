package hosting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/dial"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/readcopy"
	"durablestream/internal/wait"
)

// Process is a process's part in a log: it hosts the log, or has joined its host and
// takes over when the host is gone.
//
// Safety rests on the lock alone: the process with the lock hosts, and a process that
// dies in any way, or stops, releases it. Liveness: a host that ends ends every
// connection to it. Each process that joined then tries the lock at once, and retries
// until its connection is back; one process gets it. A host that is paused (SIGSTOP)
// keeps lock and connections, and everybody waits: why reports it.
type Process struct {
	Client *client.Client
	Conn   *nats.Conn

	cfg   Config
	begun chan struct{} // closed when this process begins to host
	lost  chan struct{} // closed when its directory is gone
	log   joined

	loseOnce sync.Once
	over     chan struct{} // closed by end; nil on servers
	watch    sync.WaitGroup

	mu      sync.Mutex // guards the fields below: the process hosts, or may begin to, until end
	current *host      // nil while this process does not host
	failed  error      // the error of its last attempt to host
	ended   bool
	copy    *readcopy.Copy // that current hosts; nil: the log itself
	copyOf  *broker.UnwritableError

	quit context.CancelFunc // ends standBy; nil if it never began
	done chan struct{}
}

func newProcess(cfg Config) *Process {
	p := &Process{cfg: cfg, begun: make(chan struct{}), lost: make(chan struct{}), over: make(chan struct{})}
	p.log.dir = cfg.HostDir
	return p
}

// Open opens the log of Config.Servers, or else the one in Config.Dir: it joins the host
// or becomes it, as durablestream.Open documents.
func Open(ctx context.Context, cfg Config) (*Process, error) {
	if cfg.onServers() {
		return openServers(ctx, cfg)
	}
	return joinOrHost(ctx, cfg)
}

// Close ends the use of the log, once. A host first lingers for at most Config.Linger,
// and writes the mirror up to the Log's end.
func (p *Process) Close() error {
	p.Client.Close()
	p.Conn.Close()
	if now := p.now(); now != nil && p.cfg.Linger > 0 {
		now.linger(p.cfg.Linger, lingerYoung)
	}
	return p.end()
}

// Hosting reports whether the broker runs in this process at the moment.
func (p *Process) Hosting() bool { return p.now() != nil }

// Hosted is closed when this process begins to host.
func (p *Process) Hosted() <-chan struct{} { return p.begun }

// Evicted is closed when the log's directory is gone.
func (p *Process) Evicted() <-chan struct{} { return p.lost }

// WhyEvicted is the error behind Evicted, once that is closed: nil if the directory is
// back.
func (p *Process) WhyEvicted() error { return p.why() }

// RecreateLog creates an empty Log again that begins at first. The host may do this, and
// on Servers a key that may change the Log.
func (p *Process) RecreateLog(ctx context.Context, first event.Sequence) error {
	if p.cfg.onServers() {
		return recreateLog(ctx, p.Conn, first)
	}
	h := p.now()
	if h == nil {
		return errors.New("durablestream: only the process that hosts the log can make it again")
	}
	return h.broker.RecreateLog(ctx, first)
}

// joinOrHost tries in turn to join and to host, until one of them works.
func joinOrHost(ctx context.Context, cfg Config) (*Process, error) {
	if err := paths.NoLogLink(cfg.Dir); err != nil {
		return nil, fmt.Errorf("durablestream: %w", err)
	}
	p := newProcess(cfg)
	if err := address.CheckOwner(p.log.dir); err != nil {
		return nil, fmt.Errorf("durablestream: %w", err)
	}
	target := dial.Target{AddressFile: cfg.addressFile(), Local: p.dial, Joining: p.joining}
	pause := wait.Backoff{First: 5 * time.Millisecond, Most: 100 * time.Millisecond}
	begun, told := time.Now(), ""
	starting := false // the host was starting, since patience began
	patience, cancel := patient(ctx, cfg.Wait)
	defer func() { cancel() }()
	for {
		_, why := address.Read(target.AddressFile)
		if why == nil {
			if why = p.attach(patience, target); why == nil {
				p.standBy(p.Conn)
				return p, nil
			}
		}
		if !cfg.JoinOnly {
			err := p.host(ctx, cfg)
			var unwritable *broker.UnwritableError
			if cfg.ReadCopy && errors.As(err, &unwritable) {
				err = p.hostCopy(ctx, cfg, unwritable)
			}
			var locked *broker.LockedError
			if err == nil {
				graced, done := grace.Context(ctx, hostGrace)
				defer done()
				if err := p.attach(graced, target); err != nil {
					return nil, errors.Join(err, p.end())
				}
				return p, nil
			}
			if !errors.As(err, &locked) {
				return nil, fmt.Errorf("durablestream: %w", err)
			}
			if client.Hopeless(why) {
				return nil, fmt.Errorf("durablestream: %w", why) // the host runs, and will not accept us later either
			}
			why = errors.Join(err, ignoreNone(why))
		}
		if stands := p.why(); stands != nil {
			starting = starting || errors.As(stands, new(*broker.StartingError))
			why = stands // it has the whole reason
			if kind := fmt.Sprintf("%T", stands); told != kind {
				told = kind
				cfg.Logger.Error("waiting for the log", "err", stands)
			}
		}
		if told == "" && time.Since(begun) > tellAfter {
			told = "waiting"
			cfg.Logger.Warn("waiting for the log", "err", why)
		}
		if err := pause.Wait(patience); err != nil {
			if starting && ctx.Err() == nil {
				starting, told = false, "" // report its progress again
				cancel()
				patience, cancel = patient(ctx, cfg.Wait)
				continue
			}
			return nil, fmt.Errorf("durablestream: no host to join: %w: %w", why, err)
		}
	}
}

// tellAfter is how long Open waits before it logs the reason.
const tellAfter = 5 * time.Second

// patient bounds ctx, if there is a bound.
func patient(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	if wait == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, wait)
}

func ignoreNone(err error) error {
	if errors.Is(err, address.ErrNone) {
		return nil
	}
	return err
}

// attach connects to a target and creates the client. On failure it removes everything
// that it created.
func (p *Process) attach(ctx context.Context, t dial.Target) error {
	t.NKey, t.TLS = p.cfg.NKey, dial.TLSFiles(p.cfg.TLS)
	nc, err := dial.Connect(ctx, t)
	if err != nil {
		return err
	}
	cfg := p.cfg.Client
	cfg.Restoring, cfg.Logger, cfg.Why, cfg.OwnHost = p.cfg.Restoring, p.cfg.Logger, p.why, !p.cfg.onServers()
	c, err := client.New(ctx, nc, cfg)
	if err != nil {
		nc.Close()
		return err
	}
	if cfg.OwnHost {
		p.log.opened(c.Identity())
	}
	p.Client, p.Conn = c, nc
	return nil
}

// joining checks the host at the address: see dial.Target.
func (p *Process) joining(host address.Host, err error) error {
	if err != nil {
		if gone := p.log.look(); gone != nil {
			err = p.lose(gone)
		}
		return err
	}
	if host.Log == "" {
		err = p.log.look()
	} else {
		err = p.log.is(host.Log)
	}
	if err != nil {
		return p.lose(err)
	}
	p.log.mu.Lock()
	told := p.log.old
	p.log.old = told || host.Old
	p.log.mu.Unlock()
	switch {
	case host.Old && !told:
		p.cfg.Logger.Warn(fmt.Sprintf("the host of the log (process %d as it says, version %s) is of an earlier version, and cannot prove that it has this directory; its lock and its owner are right: start it again with this version", host.PID, host.Version))
	case !host.Old && !host.Proven:
		p.cfg.Logger.Info("the host of the log cannot prove that it has this directory, since the disk takes no file; its lock and its owner are right")
	}
	return nil
}

// lose returns err. If the log is gone, it closes the channel of Evicted.
func (p *Process) lose(err error) error {
	if p.log.why() != nil {
		p.loseOnce.Do(func() { close(p.lost) })
	}
	return err
}
