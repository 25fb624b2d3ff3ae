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

// Config says which log to open and how. The zero value opens the log of the
// project in the current directory.
type Config struct {
	// Dir is the project's directory for the log and its mirror. Default ".opencode".
	// Where it does not exist it is created; the directory above it must exist.
	Dir string
	// StreamID is given to events that name no stream. Default: none, they are refused.
	StreamID string
	// CorrelationID is given to events that have none. Default: a new UUIDv7.
	CorrelationID string
	// JoinOnly forbids this process to host. Default: it hosts when nobody does, and
	// takes over when the host of the moment has gone.
	JoinOnly bool
	// Logger hears of what goes wrong in the background. Default: discarded.
	Logger *slog.Logger

	// Servers are URLs of NATS servers that hold the Log, instead of a host in Dir.
	Servers []string
	// NKey is a file with the seed of the key to connect with. Default: none.
	NKey string
	// TLS are the certificates to connect with. Default: the system's authorities.
	TLS client.TLSFiles
	// AcceptWeakerDurability goes on with Servers that do not promise what a host
	// of ours does; what is missing is logged. Default: refused, by name.
	AcceptWeakerDurability bool
	// ServerMonitor are the monitoring URLs of Servers (http://host:8222), where what
	// they promise is read. Default: what cannot be seen is logged as a warning.
	ServerMonitor []string
	// Replicas of a Log that is made on Servers; one that exists with fewer is
	// refused. Default: 3 in a cluster, else 1, and any number of one that exists.
	Replicas int

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

	// Worktree names the git work tree that this process works in, for the metadata of
	// its events: see event.MetadataWorktree. Default: none.
	Worktree string
	// Command is for programs that, like the commands of dstream, are short, only look,
	// or repair a log. Default: none of it.
	Command Command
}

// Command is what a program sets that is short, only looks, or repairs a log.
type Command struct {
	// NoCreate makes it an error that there is no Log: client.ErrNoLog on Servers, a
	// *NoLogError in Dir, where then no file or directory is created either. Default:
	// the Log is created.
	NoCreate bool
	// Wait is how long Open waits for a host that does not answer. A host that is starting
	// is waited for, and one that this process starts takes as long as it needs. Default:
	// as long as the context lasts, in the first two cases.
	Wait time.Duration
	// Linger is how long, at most, Close goes on hosting while processes that have just
	// joined are connected, so that many short ones do not hand the log over one by one.
	// Default: Close hands it over at once.
	Linger time.Duration
	// NoTakeOver keeps this process from taking over from a host that has gone; it
	// hosts only if nobody does when it opens. It is for commands that only look.
	NoTakeOver bool
	// ReadCopy reads a log whose directory cannot be written, and that nobody hosts, from a
	// temporary copy, in which appends are refused: see Admin.Copied. The copy takes
	// as much space as the newest block of the log, and all of it where its files could be
	// written and only their directories cannot. Default: Open returns a
	// *broker.UnwritableError.
	ReadCopy bool
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
}

// Serve is what a host of more than one machine needs.
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

// DurableStream is an open log, and its host while this process is the one. Its methods
// may be called from any number of goroutines.
type DurableStream struct {
	client  *client.Client
	dir     string
	process *hosting.Process

	closeOnce sync.Once
	closeErr  error
}

// Open joins the host of the log, or becomes it. It waits, as long as the context
// lasts, for a host that is starting; its error then says which process holds the
// log, a *broker.StartingError that it is still at work. Where this process becomes the
// host, a deadline of the context does not end the start of the engine: after many events
// within the duplicate window it takes long, and would only begin again.
//
// A mirror that does not fit the log is an error of package mirror, and
// nothing has been changed. Where Dir itself is a symbolic link, or holds one in the place
// of a directory or a file of the log, nothing is read or written through it.
//
// When the host goes, by whatever signal, a process that may host takes over, and
// the others follow it: calls that are under way wait, and go on.
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

// hosting is what package hosting needs of a Config.
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

// GoneError says that the log that this process had opened is no longer at its place.
type GoneError = client.GoneError

// StoppedError says that the host does not run and has not ended either.
type StoppedError = broker.StoppedError

// HostStatus is what the host says of itself.
type HostStatus = broker.HostStatus

// Hosting reports whether the broker runs in this process at the moment.
func (d *DurableStream) Hosting() bool { return d.process.Hosting() }

// Evicted is closed when the log's directory was removed, moved or replaced, while this
// process hosted or had joined the host: it makes no other log there. Calls fail with a
// *GoneError until the directory is back. Admin.WhyEvicted has the error.
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
