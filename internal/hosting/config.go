// Package hosting joins the host of a log, stands by for it, and takes over: it runs the
// broker, the mirror and the sweeper of a host together.
package hosting

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/paths"
	"durablestream/internal/roles"
)

// Config selects the log to open and what this process may do for it. Fields without a
// comment are those of durablestream.Config.
type Config struct {
	// Dir is the project's directory, an absolute path; the mirror's files are in it.
	Dir string
	// HostDir is the directory in Dir that holds the store, the lock and the address.
	HostDir string
	// Version is the version that a host of this process reports.
	Version string
	// Client configures the client of this process, except Restoring, Logger, Why and
	// OwnHost, which Open sets.
	Client client.Config
	Logger *slog.Logger // not nil

	Servers Servers
	NKey    string
	TLS     client.TLSFiles

	JoinOnly   bool
	Wait       time.Duration
	Linger     time.Duration
	NoTakeOver bool
	NoCreate   bool
	ReadCopy   bool
	Restoring  bool
	// Explain rewords an error of a host that could not start; nil leaves it as it is.
	Explain func(error) error

	Node            Node
	Listen          string
	DuplicateWindow time.Duration
	DiskFloor       int64

	NoSweeper      bool
	NoMirror       bool
	CheckMirror    bool
	MirrorMaxBytes int64

	takingOver bool   // from a host that existed a moment ago
	expect     string // the identity of the log to host; "": any, and one is created if there is none
	copied     string // replaces HostDir; "": HostDir itself
}

// Servers are NATS servers that hold the Log, instead of a host in Dir.
type Servers struct {
	URLs         []string
	Monitor      []string
	AcceptWeaker bool // accepts a weaker durability than that of a host of ours
	Replicas     int
}

func (c Config) onServers() bool { return len(c.Servers.URLs) > 0 }

// Node is the configuration of a host for more than one machine: see durablestream.Serve.
type Node struct {
	Name       string
	Cluster    *broker.ClusterConfig // nil: a single server
	KeyFile    string
	TLS        broker.TLSConfig
	Insecure   bool
	AnyHeaders bool
	Waiting    func(words string)
}

// broker returns the broker's part of a Config.
func (c Config) broker() (broker.Config, error) {
	b := broker.Config{
		Dir:             c.HostDir,
		Listen:          c.Listen,
		DuplicateWindow: c.DuplicateWindow,
		DiskFloor:       c.DiskFloor,
		Version:         c.Version,
		Restoring:       c.Restoring,
		NoCreate:        c.NoCreate,
		Logger:          c.Logger,
		Name:            c.Node.Name,
		Cluster:         c.Node.Cluster,
		TLS:             c.Node.TLS,
		Insecure:        c.Node.Insecure,
		AnyHeaders:      c.Node.AnyHeaders,
		Waiting:         c.Node.Waiting,
		Expect:          c.expect,
		End:             endProcess,
	}
	if c.copied != "" {
		b.Dir, b.ReadOnly = c.copied, true
		return b, nil
	}
	if c.Node.KeyFile == "" {
		return b, nil
	}
	if err := paths.NoProjectLink(c.Dir, c.Node.KeyFile); err != nil {
		return b, err
	}
	keys, err := roles.Read(c.Node.KeyFile)
	if err == nil && len(keys) == 0 {
		err = &roles.ListError{Path: c.Node.KeyFile, Rule: "holds no key: make one with dstream keys make"}
	}
	for _, k := range keys {
		b.Keys = append(b.Keys, broker.Key{Name: k.Name, Role: string(k.Role), Public: k.Public})
	}
	return b, err
}

// endProcess ends this process as SIGTERM does, when another process asks this host to
// end: see address.End.
func endProcess() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = self.Signal(syscall.SIGTERM) // the caller sees whether it ends
	}
}

func (c Config) addressFile() string { return broker.AddressPath(c.HostDir) }

// store is the directory of the engine's files.
func (c Config) store() string { return filepath.Join(c.HostDir, broker.StoreDir) }
