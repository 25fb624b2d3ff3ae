package durablestream

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/hosting"
)

// Version is the version of this module and of dstream. A release changes it here, in
// CHANGELOG.md and in the package.json files; a test compares them.
const Version = "0.1.0"

// Names inside Config.Dir.
const (
	// HostDir holds the store, the lock and the address of the host.
	HostDir = "durable_stream"
	// MirrorFile is the canonical JSONL file.
	MirrorFile = "durable_stream.jsonl"
)

// Config selects the log to open, and how. The zero value opens the log of the project in
// the current directory.
type Config struct {
	// Dir is the project's directory for the log and its mirror. Default ".opencode". If
	// it does not exist, Open creates it; its parent directory must exist.
	Dir string
	// StreamID is for events without a stream. Default: none, and such events are
	// refused.
	StreamID string
	// CorrelationID is for events without one. Default: a new UUIDv7.
	CorrelationID string
	// JoinOnly forbids this process to host. Default: it hosts if no process does, and
	// takes over when the present host is gone.
	JoinOnly bool
	// Logger gets faults in the background. Default: discarded.
	Logger *slog.Logger

	// Servers are URLs of NATS servers that hold the Log, instead of a host in Dir.
	Servers []string
	// NKey is a file with the seed of the key to connect with. Default: none.
	NKey string
	// TLS are the certificates to connect with. Default: the system's authorities.
	TLS client.TLSFiles
	// AcceptWeakerDurability accepts Servers that promise less than a host of ours, and
	// logs what is missing. Default: such servers are refused, with the missing feature.
	AcceptWeakerDurability bool
	// ServerMonitor are the monitoring URLs of Servers (http://host:8222), from which
	// Open reads what they promise. Default: Open logs a warning for what it cannot see.
	ServerMonitor []string
	// Replicas is for a Log that Open creates on Servers; an existing Log with fewer is
	// refused. Default: 3 in a cluster, else 1, and any number for an existing Log.
	Replicas int

	// Listen is the host's address. Default: a free port of the loopback.
	Listen string
	// Serve is for hosts of more than one machine: nodes of a cluster, and hosts with
	// keys. Default: zero.
	Serve Serve
	// DuplicateWindow, default 10 minutes: see broker.Config.
	DuplicateWindow time.Duration
	// DiskFloor in bytes, default 64 MiB: see broker.Config.
	DiskFloor int64
	// MirrorMaxBytes is the size at which the file is rotated. Default 64 MiB.
	MirrorMaxBytes int64

	// Worktree names the git work tree that this process works in, for the metadata of
	// its events: see event.MetadataWorktree. Default: none.
	Worktree string
	// Command is for programs that, like the commands of dstream, are short, only read,
	// or repair a log. Default: zero.
	Command Command
}

// Command is the configuration of a program that is short, only reads, or repairs a log.
type Command struct {
	// NoCreate makes a missing Log an error: client.ErrNoLog on Servers, a *NoLogError in
	// Dir. Then Open creates no file or directory in Dir either. Default: Open creates
	// the Log.
	NoCreate bool
	// Wait is how long Open waits for a host that does not answer. It does not bound the
	// wait for a host that is starting, nor the start of a host in this process. Default:
	// until the context ends.
	Wait time.Duration
	// Linger is how long, at most, Close continues to host while processes that have just
	// joined are connected, so that many short ones do not hand the log over one by one.
	// Default: Close hands it over at once.
	Linger time.Duration
	// NoTakeOver keeps this process from taking over from a host that is gone; it hosts
	// only if no process does when it opens. It is for commands that only read.
	NoTakeOver bool
	// ReadCopy reads a log whose directory cannot be written, and that nobody hosts, from
	// a temporary copy, in which appends are refused: see Admin.Copied. The copy takes as
	// much space as the newest block of the log, or as the whole log if its files can be
	// written and only their directories cannot. Default: Open returns a
	// *broker.UnwritableError.
	ReadCopy bool
	// NoMirror leaves the JSONL file unchanged while this process hosts: for commands
	// that read or replace it.
	NoMirror bool
	// NoSweeper enforces no deadlines while this process hosts: for commands that only
	// read.
	NoSweeper bool
	// CheckMirror compares all of the mirror's files with the Log before hosting, if they
	// are no larger than 256 MiB: damage in the middle then makes Open fail. Default:
	// Open compares only where the files begin and end.
	CheckMirror bool
	// Restoring opens a Log whose restore was interrupted. Default: refused.
	Restoring bool
}

// Serve is the configuration of a host for more than one machine.
type Serve struct {
	Name     string                // see broker.Config
	Cluster  *broker.ClusterConfig // default nil: a single server
	KeyFile  string                // the list that `dstream keys` keeps; default none
	TLS      broker.TLSConfig
	Insecure bool
	// AnyHeaders lets agents and operators publish with any headers of the engine's at a node
	// of a cluster with keys: see broker.Config. Default: false.
	AnyHeaders bool
	Waiting    func(words string) // see broker.Config
}

// DurableStream is an open log, and its host while this process hosts. Any number of
// goroutines may call its methods.
type DurableStream struct {
	client  *client.Client
	dir     string
	process *hosting.Process

	closeOnce sync.Once
	closeErr  error
}

// Open joins the host of the log, or becomes it. It waits for a host that is starting
// until the context ends; its error then names the process that holds the log, and is a
// *broker.StartingError if that process is still starting. If this process becomes the
// host, a deadline of the context does not end the start of the engine: with many events
// within the duplicate window the start takes long, and would only begin again.
//
// Open refuses a log in the format of a later version with a *client.NewerFormatError, and
// one on servers whose settings promise less than a log must with a *client.WeakLogError.
//
// If the mirror does not fit the log, Open returns an error of package mirror, and has
// changed nothing. If Dir is a symbolic link, or has one in the place of a directory or a
// file of the log, Open reads and writes nothing through it.
//
// When the host ends, by whatever signal, a process that may host takes over, and the
// others follow it: calls in progress wait, and continue.
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
	p, err := hosting.Open(ctx, cfg.hosting())
	if err != nil {
		return nil, err
	}
	return &DurableStream{client: p.Client, dir: dir, process: p}, nil
}

// hosting returns the part of a Config that package hosting needs.
func (c Config) hosting() hosting.Config {
	return hosting.Config{
		Dir:     c.Dir,
		HostDir: filepath.Join(c.Dir, HostDir),
		Version: Version,
		Client:  client.Config{CorrelationID: c.CorrelationID, StreamID: c.StreamID, Worktree: c.Worktree},
		Logger:  c.Logger,
		Servers: hosting.Servers{
			URLs:         c.Servers,
			Monitor:      c.ServerMonitor,
			AcceptWeaker: c.AcceptWeakerDurability,
			Replicas:     c.Replicas,
		},
		NKey:            c.NKey,
		TLS:             c.TLS,
		JoinOnly:        c.JoinOnly,
		Wait:            c.Command.Wait,
		Linger:          c.Command.Linger,
		NoTakeOver:      c.Command.NoTakeOver,
		NoCreate:        c.Command.NoCreate,
		ReadCopy:        c.Command.ReadCopy,
		Restoring:       c.Command.Restoring,
		Explain:         c.noLog,
		Node:            hosting.Node(c.Serve),
		Listen:          c.Listen,
		DuplicateWindow: c.DuplicateWindow,
		DiskFloor:       c.DiskFloor,
		NoSweeper:       c.Command.NoSweeper,
		NoMirror:        c.Command.NoMirror,
		CheckMirror:     c.Command.CheckMirror,
		MirrorMaxBytes:  c.MirrorMaxBytes,
	}
}

// GoneError is a log that this process had opened and that is no longer at its place.
type GoneError = client.GoneError

// StoppedError is a host that does not run and has not ended either.
type StoppedError = broker.StoppedError

// HostStatus is the host's report about itself.
type HostStatus = broker.HostStatus

// Hosting reports whether the broker runs in this process at the moment.
func (d *DurableStream) Hosting() bool { return d.process.Hosting() }

// Evicted is closed when the log's directory was removed, moved or replaced, while this
// process hosted or had joined the host. This process creates no other log there. Calls
// fail with a *GoneError until the directory is back. Admin.WhyEvicted has the error.
func (d *DurableStream) Evicted() <-chan struct{} { return d.process.Evicted() }

// Dir is the project's directory for the log, as an absolute path.
func (d *DurableStream) Dir() string { return d.dir }

// Close ends the use of the log. A host first writes the mirror up to what the Log
// holds; then another process that may host takes over. Close takes no context: it waits
// a bounded time for the mirror, and then until the server has shut down and freed the lock,
// without which the next host cannot start. It may be called more than once.
func (d *DurableStream) Close() error {
	d.closeOnce.Do(func() {
		d.closeErr = d.process.Close()
		forget(d)
	})
	return d.closeErr
}

// single is the process-wide instance of Get.
var single struct {
	mu sync.Mutex
	d  *DurableStream
}

// Get returns the log that this whole process shares. The first call opens it, with that
// call's Config (the zero one if none is given). Events without a stream belong to this
// process's run, as in the original module. After Close, Get opens it again.
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
