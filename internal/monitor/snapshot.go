// Package monitor answers a monitoring system about one dstream process: /healthz
// says whether it does its work, /metrics gives figures in Prometheus' format. What
// it tells is asked for at each request; nothing is kept.
package monitor

import (
	"time"

	"durablestream/event"
)

// State is what a process does for the log at the moment.
type State string

// The states of a process.
const (
	Starting  State = "starting"  // it has no log yet, and says what it waits for
	Standby   State = "standby"   // another process hosts; this one takes over when that ends
	Hosting   State = "host"      // the broker runs in this process
	Mirroring State = "mirroring" // it only writes the mirror
)

// Snapshot is what a process knows at one moment.
type Snapshot struct {
	State   State
	Version string // of this program
	Format  int    // of the Log, as this program writes it
	Engine  string // version of nats-server
	Node    string // name of the server; "" where it has none of its own
	Cluster string // "" outside of a cluster
	// Log is nil where the Log cannot be used; Reasons then says why.
	Log *Log
	// Replicas are the copies of the Log in a cluster.
	Replicas []Replica
	// Host is nil unless the broker runs in this process.
	Host *Host
	// Mirror is nil unless this process writes the mirror.
	Mirror *Mirror
	// Sweeper is nil unless this process sweeps.
	Sweeper *Sweeper
	// Reasons are what keeps the process from its work. None: it is healthy.
	Reasons []Reason
}

// Reason is one thing that is wrong. Its name is the alarm's in `dstream status`.
type Reason struct {
	Name    string `json:"alarm"`
	Message string `json:"message"`
}

// Log is the state of the Log.
type Log struct {
	Position  event.Sequence
	Messages  uint64 // events and guards
	Missing   uint64 // positions that should hold something and do not
	Bytes     uint64 // on disk
	Consumers int    // readers' places on the server
}

// Replica is one copy of the Log.
type Replica struct {
	Name    string
	Leader  bool
	Current bool
	Offline bool
	Lag     uint64 // positions
	// Unknown: there is no leader to tell of Current and Lag. Offline then says that
	// the node did not answer.
	Unknown bool
}

// Host is the state of the broker in this process.
type Host struct {
	Since      time.Time
	DiskFree   int64     // bytes; negative: unknown
	DiskFloor  int64     // bytes; negative: not watched
	DiskFull   bool      // appends are refused
	ReadOnly   bool      // appends are refused: the disk cannot be written
	Torn       bool      // appends are refused: the Log ends with a part of a batch
	Inodes     int64     // free
	InodeFloor int64     // 0: the file system has no limit of inodes, or none is known
	Damaged    uint64    // positions of its store that it cannot read
	Checked    time.Time // since when it has read all of its store; zero: not yet
}

// Mirror is the state of the mirror that this process writes.
type Mirror struct {
	Running  bool
	Position event.Sequence // it has dealt with everything up to here
	Lines    uint64         // written by this process
	SetAside uint64         // messages that are no events, met by this process
}

// Sweeper is the state of the sweeper in this process.
type Sweeper struct{ Running bool }
