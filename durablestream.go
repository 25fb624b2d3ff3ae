// Package durablestream is a durable, ordered log of what AI agents do, which
// outlives the agents. Open hosts the project's log in this process, or joins the
// process that hosts it; what it returns appends, queries and subscribes.
package durablestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/address"
)

// Version is this program's.
const Version = "0.1.0"

// Names inside Config.Dir.
const (
	// HostDir holds the store, the lock and the address of the host.
	HostDir = "durable_stream"
	// MirrorFile is the canonical JSONL file.
	MirrorFile = "durable_stream.jsonl"
)

// Config says which log to open and how. The zero value opens the log of the
// project in the current directory.
type Config struct {
	// Dir is the project's directory for the log and its mirror. Default ".opencode".
	Dir string
	// Servers are URLs of NATS servers that hold the Log, instead of a host in Dir.
	Servers []string
	// NKey is a file with the seed of the key to connect with. Default: none.
	NKey string
	// TLS are the certificates to connect with. Default: the system's authorities.
	TLS client.TLSFiles
	// AcceptWeakerDurability goes on with Servers that do not promise what a host
	// of ours does; what is missing is logged. Default: refused, by name.
	AcceptWeakerDurability bool
	// JoinOnly forbids this process to host. Default: it hosts when nobody does.
	JoinOnly bool
	// HostOnly makes Open fail with a *broker.LockedError where another process
	// hosts already. Default: it joins.
	HostOnly bool
	// NoMirror leaves the JSONL file alone while hosting: for commands that look
	// at it or replace it.
	NoMirror bool
	// NoSweeper leaves what time decides undecided while hosting: for commands that
	// only look.
	NoSweeper bool
	// CheckMirror compares the whole of the files with the Log before hosting, where
	// they are no larger than 256 MiB: damage in the middle then keeps Open from
	// hosting. Default: only where the files begin and end.
	CheckMirror bool
	// Restoring opens a Log whose restore was interrupted. Default: refused.
	Restoring bool

	// Listen is the host's address. Default: a free port of the loopback.
	Listen string
	// Serve is for hosts that are more than one machine's: nodes of a cluster, and
	// hosts with keys. Default: none of it.
	Serve Serve
	// DuplicateWindow, default 10 minutes: see broker.Config.
	DuplicateWindow time.Duration
	// DiskFloor in bytes, default 64 MiB: see broker.Config.
	DiskFloor int64
	// MirrorMaxBytes is the size at which the file is rotated. Default 64 MiB.
	MirrorMaxBytes int64

	// StreamID is given to events that name no stream. Default: none, they are refused.
	StreamID string
	// CorrelationID is given to events that have none. Default: a new UUIDv7.
	CorrelationID string
	// Logger hears of what goes wrong in the background. Default: discarded.
	Logger *slog.Logger
}

// Serve is what a host of more than one machine needs.
type Serve struct {
	Name     string                // see broker.Config
	Cluster  *broker.ClusterConfig // default nil: a single server
	KeyFile  string                // the list that `dstream keys` keeps; default none
	TLS      broker.TLSConfig
	Insecure bool
}

// DurableStream is an open log: a client.Client, and the host where this process
// is the one.
type DurableStream struct {
	*client.Client

	cfg  Config
	nc   *nats.Conn
	host *host // nil where this process joined

	closeOnce sync.Once
	closeErr  error
}

// Open joins the host of the log, or becomes it. It waits, as long as the context
// lasts, for a host that is starting; its error then says which process holds the
// log. A mirror that does not fit the log is an error of package mirror, and
// nothing has been changed.
func Open(ctx context.Context, cfg Config) (*DurableStream, error) {
	if cfg.Dir == "" {
		cfg.Dir = ".opencode"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("durablestream: %w", err)
	}
	cfg.Dir = dir
	if len(cfg.Servers) > 0 {
		return join(ctx, cfg, client.Target{Servers: cfg.Servers})
	}
	return joinOrHost(ctx, cfg)
}

// joinOrHost tries in turn to join and to host, until one of them works.
func joinOrHost(ctx context.Context, cfg Config) (*DurableStream, error) {
	path := broker.AddressPath(filepath.Join(cfg.Dir, HostDir))
	wait := 5 * time.Millisecond
	for {
		var why error
		if !cfg.HostOnly {
			_, err := address.Read(path)
			if err == nil {
				var d *DurableStream
				if d, err = join(ctx, cfg, client.Target{AddressFile: path}); err == nil {
					return d, nil
				}
			}
			why = err
		}
		if !cfg.JoinOnly {
			d, err := open(ctx, cfg)
			var locked *broker.LockedError
			if err == nil {
				return d, nil
			}
			if cfg.HostOnly || !errors.As(err, &locked) {
				return nil, fmt.Errorf("durablestream: %w", err)
			}
			why = errors.Join(err, ignoreNone(why))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("durablestream: no host to join: %w: %w", why, ctx.Err())
		case <-time.After(wait):
			wait = min(wait*2, 100*time.Millisecond)
		}
	}
}

func ignoreNone(err error) error {
	if errors.Is(err, address.ErrNone) {
		return nil
	}
	return err
}

func join(ctx context.Context, cfg Config, t client.Target) (*DurableStream, error) {
	nc, err := client.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	return attach(ctx, cfg, nc, nil)
}

// attach makes the client over nc; on failure it takes down what was built.
func attach(ctx context.Context, cfg Config, nc *nats.Conn, h *host) (*DurableStream, error) {
	c, err := client.New(ctx, nc, client.Config{
		CorrelationID: cfg.CorrelationID,
		StreamID:      cfg.StreamID,
		Logger:        cfg.Logger,
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &DurableStream{Client: c, cfg: cfg, nc: nc, host: h}, nil
}

// Hosting reports whether the broker runs in this process.
func (d *DurableStream) Hosting() bool { return d.host != nil }

// Dir is the project's directory for the log, as an absolute path.
func (d *DurableStream) Dir() string { return d.cfg.Dir }

// Conn is the connection to the broker. It is closed by Close.
func (d *DurableStream) Conn() *nats.Conn { return d.nc }

// RecreateLog makes an empty Log again that begins at first; only the host can.
func (d *DurableStream) RecreateLog(ctx context.Context, first uint64) error {
	if d.host == nil {
		return errors.New("durablestream: only the process that hosts the log can make it again")
	}
	return d.host.broker.RecreateLog(ctx, first)
}

// Close ends the use of the log. A host first writes the mirror up to what the Log
// holds. It may be called more than once.
func (d *DurableStream) Close() error {
	d.closeOnce.Do(func() {
		if d.host != nil {
			d.closeErr = errors.Join(d.host.stopSweeper(), d.host.stopMirror())
		}
		d.Client.Close()
		d.nc.Close()
		if d.host != nil {
			d.closeErr = errors.Join(d.closeErr, d.host.broker.Stop(context.Background()))
		}
		forget(d)
	})
	return d.closeErr
}

// single is the process-wide instance of Get.
var single struct {
	mu sync.Mutex
	d  *DurableStream
}

// Get returns the log that this whole process shares, opened by the first call
// with that call's Config (the zero one if none is given). Events that name no
// stream belong to this process's run, as in the original module. After Close, Get
// opens again.
func Get(ctx context.Context, cfg ...Config) (*DurableStream, error) {
	single.mu.Lock()
	defer single.mu.Unlock()
	if single.d != nil {
		return single.d, nil
	}
	var c Config
	if len(cfg) > 0 {
		c = cfg[0]
	}
	if c.CorrelationID == "" {
		c.CorrelationID = event.NewID()
	}
	if c.StreamID == "" {
		c.StreamID = c.CorrelationID
	}
	d, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	single.d = d
	return d, nil
}

func forget(d *DurableStream) {
	single.mu.Lock()
	defer single.mu.Unlock()
	if single.d == d {
		single.d = nil
	}
}

// MirrorPath is the path of the canonical JSONL file of a directory.
func MirrorPath(dir string) string { return filepath.Join(dir, MirrorFile) }
