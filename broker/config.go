package broker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where a broker keeps its log and where it listens. The zero value
// of every field but Dir works.
type Config struct {
	// Dir is the directory of the host: it holds the store, the lock and the
	// address file, and is made with mode 0700. Required.
	Dir string
	// Listen is host:port. Default 127.0.0.1:0, a free port of the loopback.
	Listen string
	// DuplicateWindow is how long the engine remembers event ids. Default 10
	// minutes. A Log that exists with a shorter one is refused.
	DuplicateWindow time.Duration
	// DiskFloor is the free space, in bytes, under which appends are refused.
	// Default 64 MiB; negative turns the watch off.
	DiskFloor int64
	// Name is the server's, shown by status and unique in a cluster. Default
	// "durable-stream".
	Name string
	// Cluster makes this broker one node of a cluster. Default nil: a single server.
	Cluster *ClusterConfig
	// Keys are the keys that may connect. Default none: every process that can read the
	// address file may do everything.
	Keys []Key
	// TLS are the certificates for clients and routes. Default: none.
	TLS TLSConfig
	// Insecure allows a listen address that is no loopback without keys and TLS.
	Insecure bool
	// Version is shown to those who join. Default "".
	Version string
	// Restoring lets a Log start whose restore was interrupted. Default false:
	// such a Log is refused, since it is not whole.
	Restoring bool
	// ReadOnly refuses all appends, as on a disk that is read-only. It is for a temporary
	// copy of a store that cannot be written. Default: false.
	ReadOnly bool
	// Waiting hears what a node of a cluster waits for, once per change. It must not
	// block. Default: Logger, as a warning.
	Waiting func(words string)
	// NoCreate makes it a *NoLogError that Dir holds no Log. Where there is no store
	// either, nothing is created. Default: the Log is created.
	NoCreate bool
	// Expect is the identity of the Log (Broker.Log) that must be in Dir: a directory
	// that is not there, or holds another Log or none, is a *MissingLogError, and nothing
	// is made. Default: any, and one is made where there is none.
	Expect string
	// End is called when somebody who can write in Dir asks this host to end. It must not
	// block. Default: such a request is passed over.
	End func()
	// AnyHeaders lets agents and operators publish with any headers of the engine's at a node of a
	// cluster with keys. Default false: the node refuses those that no client of this project
	// sends, of which one can stop the Log. The check costs each append two hops within the node.
	AnyHeaders bool
	gate       string // its name; "": none
	gateMost   int    // messages that wait there; 0: engine.MostWaiting
	// Logger receives the server's own words. Default: discarded.
	Logger *slog.Logger
}

// TLSConfig names PEM files. All of them or none are given.
type TLSConfig struct {
	Cert string // the server's certificate, valid for every name that is dialled
	Key  string // its key
	CA   string // whom the nodes trust, and clients where they show certificates
}

const (
	defaultName      = "durable-stream"
	defaultListen    = "127.0.0.1:0"
	defaultDiskFloor = 64 << 20

	// MaxPayload is the most that one message may hold, headers included.
	MaxPayload = 8 << 20
	// maxBatch is how many messages our own broker takes in one atomic batch
	// (the engine's default is 1,000).
	maxBatch = 10_000
	// mostRequests is how many requests wait for the engine.
	mostRequests = 1_000_000
)

// The names inside Config.Dir.
const (
	LockFile    = "lock"
	AddressFile = "address"
	StoreDir    = "store"
)

// AddressPath is where the broker of a host directory leaves its address.
func AddressPath(dir string) string { return filepath.Join(dir, AddressFile) }

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("broker: Config.Dir is empty: it must name the host directory")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("broker: %w", err)
	}
	c.Dir = dir
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if c.DiskFloor == 0 {
		c.DiskFloor = defaultDiskFloor
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Waiting == nil {
		c.Waiting = func(words string) { c.Logger.Warn(words) }
	}
	if c.Cluster != nil {
		cluster, err := c.Cluster.withDefaults(c.Name)
		if err != nil {
			return c, asConfig(err)
		}
		c.Cluster = &cluster
	}
	if c.Name == "" {
		c.Name = defaultName
	}
	return c, nil
}

// options translates a Config for the server.
func (c Config) options(token string) (*server.Options, error) {
	host, port, err := c.listenAddress("listen", c.Listen)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	opts := &server.Options{
		ServerName:    c.Name,
		Host:          host,
		Port:          port,
		Authorization: token,
		NoSigs:        true,
		NoLog:         true, // set again with SetLoggerV2, which NoLog does not touch
		MaxPayload:    MaxPayload,
		PingInterval:  20 * time.Second,

		JetStream:          true,
		StoreDir:           filepath.Join(c.Dir, StoreDir),
		SyncAlways:         true,
		JetStreamMaxMemory: 1 << 30, // for consumers' state only
		JetStreamMaxStore:  1 << 50, // the disk's limit is watched by package diskwatch
		// The engine drops all requests that wait, without an answer, when there are so many;
		// its default is 10,000.
		JetStreamRequestQueueLimit: mostRequests,
		JetStreamInfoQueueLimit:    mostRequests,
		JetStreamLimits: server.JSLimitOpts{
			DefaultMaxConsumers:       -1, // readers; the engine's default is 1,000
			MaxBatchSize:              maxBatch,
			MaxBatchInflightPerStream: 1000,
			MaxBatchInflightTotal:     1000,
		},
	}
	if c.Cluster != nil {
		if len(c.Keys) == 0 {
			opts.Authorization = "" // its clients come by --server and have no address file
		}
		err = c.clusterOptions(opts)
	}
	return opts, errors.Join(err, c.applyKeys(opts, token), c.applyTLS(opts))
}

// gated tells whether keys publish by way of the gate.
func (c Config) gated() bool { return c.Cluster != nil && len(c.Keys) > 0 && !c.AnyHeaders }

// listenAddress reads a host:port of the flag that it names.
func (c Config) listenAddress(what, address string) (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, asConfig(fmt.Errorf("broker: %s address %q: must be host:port, such as %s", what, address, defaultListen))
	}
	port, err = strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, asConfig(fmt.Errorf("broker: %s address %q: the port must be 0 (any free one) to 65535", what, address))
	}
	return host, port, asConfig(c.checkListen(what+" address", address, host))
}
