package durablestream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/roles"
	"durablestream/internal/sweeper"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// host is what runs in the process that hosts: the broker, the mirror and the
// sweeper, which have a connection of their own.
type host struct {
	cfg    Config
	broker *broker.Broker
	nc     *nats.Conn
	client *client.Client
	since  time.Time

	stopSweep context.CancelFunc // nil without a sweeper
	swept     chan error
	sweepErr  atomic.Pointer[error]

	progress   atomic.Pointer[mirror.Progress]
	stopMirror context.CancelFunc // nil without a mirror
	done       chan struct{}      // of the mirror

	digesting chan struct{} // holds one while a digest is made

	mu  sync.Mutex // guards err
	err error      // what ended the mirror
}

// hostGrace is what a host has for the steps that follow the start of its engine.
const hostGrace = 30 * time.Second

// startHost makes this process the host. The address is written last: others join
// only a log whose mirror fits it. After an error nothing runs.
func startHost(ctx context.Context, cfg Config) (_ *host, err error) {
	bcfg, err := cfg.broker()
	if err != nil {
		return nil, err
	}
	if err := paths.NotAsRoot(cfg.Dir); err != nil && cfg.copied == "" {
		return nil, err
	}
	if !cfg.NoCreate && cfg.copied == "" && !cfg.takingOver { // who takes over had a directory a moment ago
		if err := paths.MakeDir(cfg.Dir); err != nil {
			if short := broker.Shortage(bcfg.Dir); short != nil {
				return nil, short
			}
			return nil, err
		}
	}
	b, err := broker.Start(ctx, bcfg)
	if err != nil {
		return nil, cfg.noLog(err)
	}
	if cfg.Serve.Cluster == nil { // the engine may have taken longer than ctx had
		graced, done := grace.Context(ctx, hostGrace)
		defer done()
		ctx = graced
	}
	h := &host{cfg: cfg, broker: b, since: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop())
		}
	}()
	if h.nc, err = b.Connect(nats.Name("dstream host")); err != nil {
		return nil, err
	}
	if h.client, err = client.New(ctx, h.nc, client.Config{Logger: cfg.Logger, Restoring: true}); err != nil {
		return nil, err
	}
	if !cfg.NoMirror {
		if err := h.checkMirror(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := h.nc.Subscribe(wire.StatusSubject, h.answerStatus); err != nil {
		return nil, err
	}
	if err := h.answerDigests(); err != nil {
		return nil, err
	}
	if !cfg.NoMirror {
		h.startMirror(h.mirrorConfig())
	}
	if !cfg.NoSweeper {
		if err := h.startSweeper(ctx, sweeper.Config{Client: h.client, Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	return h, b.Advertise()
}

// broker is what the broker needs of a Config.
func (c Config) broker() (broker.Config, error) {
	b := broker.Config{
		Dir:             filepath.Join(c.Dir, HostDir),
		Listen:          c.Listen,
		DuplicateWindow: c.DuplicateWindow,
		DiskFloor:       c.DiskFloor,
		Version:         Version,
		Restoring:       c.Restoring,
		NoCreate:        c.NoCreate,
		Logger:          c.Logger,
		Name:            c.Serve.Name,
		Cluster:         c.Serve.Cluster,
		TLS:             c.Serve.TLS,
		Insecure:        c.Serve.Insecure,
		AnyHeaders:      c.Serve.AnyHeaders,
		Waiting:         c.Serve.Waiting,
		Expect:          c.expect,
		End:             endProcess,
	}
	if c.copied != "" {
		b.Dir, b.ReadOnly = c.copied, true
		return b, nil
	}
	if c.Serve.KeyFile == "" {
		return b, nil
	}
	keys, err := roles.Read(c.Serve.KeyFile)
	if err == nil && len(keys) == 0 {
		err = &roles.ListError{Path: c.Serve.KeyFile, Rule: "holds no key: make one with dstream keys make"}
	}
	b.Keys = keys
	return b, err
}

// endProcess ends this process as SIGTERM does: that is how a host is asked to end that
// has not been given a repair's directory yet.
func endProcess() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = self.Signal(syscall.SIGTERM) // who has asked sees whether it ends
	}
}

// ReloadKeys lets the host, if it is in this process, read its key list again. A
// process that stands by reads it when it takes over.
func (d *DurableStream) ReloadKeys() error {
	h := d.hosting.now()
	if h == nil || d.cfg.Serve.KeyFile == "" {
		return nil
	}
	cfg, err := d.cfg.broker()
	if err == nil {
		err = h.broker.SetKeys(cfg.Keys)
	}
	return err
}

// stop writes the mirror up to what the Log holds, and then stops everything; the
// broker last, so that whoever hosts next finds a store that nobody writes to.
//
// The mirror first catches up while the others go on, so that they wait for its last
// lines only; then nobody else may append any more.
func (h *host) stop() error {
	err := h.endSweeper()
	if h.stopMirror != nil && h.cfg.Serve.Cluster == nil {
		h.catchUp()
		ctx, cancel := context.WithTimeout(context.Background(), isolateTime)
		if late := h.broker.Isolate(ctx, h.nc); late != nil { // no failure: the next host writes the rest
			h.cfg.Logger.Warn("the mirror may end before the log: the next host writes the rest", "err", late)
		}
		cancel()
	}
	err = errors.Join(err, h.endMirror())
	if h.client != nil {
		h.client.Close()
	}
	if h.nc != nil {
		h.nc.Close()
	}
	return errors.Join(err, h.broker.Stop(context.Background()))
}

// abandon stops everything without another line in the mirror, whose place is another
// log's, or nobody's.
func (h *host) abandon() error {
	h.client.Close()
	h.nc.Close() // so that the mirror cannot read on
	err := errors.Join(h.endSweeper(), h.endMirror())
	return errors.Join(err, h.broker.Stop(context.Background()))
}

const isolateTime = 5 * time.Second

// startSweeper decides what is due, and goes on doing so until endSweeper. What
// expired while nobody hosted is decided before anybody can join; who takes over
// from a host that was there a moment ago lets nobody wait for that.
func (h *host) startSweeper(ctx context.Context, cfg sweeper.Config) error {
	if !h.cfg.takingOver {
		_, err := sweeper.Sweep(ctx, cfg)
		var damage *client.DamageError
		if errors.As(err, &damage) { // an alarm: what can be appended and read goes on
			h.sweepErr.Store(&err)
		} else if err != nil {
			return err
		}
	}
	run, cancel := context.WithCancel(context.Background())
	h.stopSweep, h.swept = cancel, make(chan error, 1)
	go func() { h.swept <- h.sweep(run, cfg) }()
	return nil
}

// sweepAgain is how long the sweeper waits that met damage in the log, which somebody
// repairs, perhaps on another node.
const sweepAgain = 10 * time.Second

// sweep runs the sweeper until ctx ends. What stops it is an alarm, until it goes on.
func (h *host) sweep(ctx context.Context, cfg sweeper.Config) error {
	for {
		err := h.sweepErr.Load()
		if err == nil {
			fault := sweeper.Run(ctx, cfg)
			if fault == nil {
				return nil
			}
			h.sweepErr.Store(&fault)
			err = &fault
		}
		var damage *client.DamageError
		if !errors.As(*err, &damage) {
			return *err
		}
		again := time.NewTimer(sweepAgain)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		}
		if _, fault := sweeper.Sweep(ctx, cfg); fault == nil {
			h.sweepErr.Store(nil)
		}
	}
}

func (h *host) endSweeper() error {
	if h.stopSweep == nil {
		return nil
	}
	h.stopSweep()
	return <-h.swept
}

// HostStatus is what the host says of itself.
type HostStatus struct {
	Name       string `json:"name,omitempty"`    // of a node
	Cluster    string `json:"cluster,omitempty"` // that it is a node of
	PID        int    `json:"pid"`
	Since      int64  `json:"since"` // Unix ms
	Version    string `json:"version"`
	Endpoint   string `json:"endpoint"`
	SyncAlways bool   `json:"sync_always"` // acknowledged means on disk; always true
	DiskFree   int64  `json:"disk_free"`   // bytes; -1 unknown
	DiskFloor  int64  `json:"disk_floor"`  // bytes; negative: not watched
	DiskFull   bool   `json:"disk_full"`   // appends are refused
	// DiskLacks says of a full disk what it lacks, see broker.Lack; "": it is not full, or
	// the host is of an older version and means space.
	DiskLacks      broker.Lack `json:"disk_lacks,omitempty"`
	DiskInodes     int64       `json:"disk_inodes"`       // free; -1: the file system has no limit, or it is not known
	DiskInodeFloor int64       `json:"disk_inodes_floor"` // under which appends are refused
	DiskReadOnly   bool        `json:"disk_read_only"`    // appends are refused, and the disk is not full
	// CopyError is what the engine says is wrong with this node's copy of the log, and CopyOut
	// that it has not opened it at all.
	CopyError   string         `json:"copy_error,omitempty"`
	CopyOut     bool           `json:"copy_out,omitempty"`
	Stuck       string         `json:"stuck,omitempty"` // why the engine takes no appends
	Torn        string         `json:"torn,omitempty"`  // why appends are refused behind a part of a batch
	MirrorSeq   event.Sequence `json:"mirror_seq"`      // the last Sequence the mirror has dealt with
	MirrorLines uint64         `json:"mirror_lines"`
	MirrorOff   bool           `json:"mirror_off,omitempty"`
	MirrorError string         `json:"mirror_error,omitempty"`
	SweepError  string         `json:"sweeper_error,omitempty"`
	SweeperOff  bool           `json:"sweeper_off,omitempty"`
	SetAside    uint64         `json:"set_aside,omitempty"`
	// Damaged is what this host has found to be damaged in its store, and Checked since
	// when, in Unix ms, it has read all of it; 0: it has not yet.
	Damaged []blocks.Damage `json:"damaged,omitempty"`
	Checked int64           `json:"checked"`
	// Unchecked is why this host does not check its store for damage; empty: it does.
	Unchecked string `json:"unchecked,omitempty"`
	// Indexed is the Sequence up to which queries are answered by index files; 0: there
	// are none yet. What is behind it is indexed in memory, or left to the engine.
	Indexed event.Sequence `json:"indexed,omitempty"`
}

func (h *host) status() HostStatus {
	disk := h.broker.Disk()
	s := HostStatus{
		Name:       h.cfg.Serve.Name,
		PID:        os.Getpid(),
		Since:      h.since.UnixMilli(),
		Version:    Version,
		Endpoint:   h.broker.Address().URL,
		DiskFree:   disk.Free,
		DiskFloor:  disk.Floor,
		DiskFull:   disk.Full && disk.Lack != broker.LackWriting && disk.Lack != broker.LackBatch,
		Stuck:      h.broker.Stuck(),
		Torn:       h.broker.Torn(),
		CopyError:  h.broker.Copy().Why,
		CopyOut:    h.broker.Copy().Out,
		SyncAlways: true,
		Indexed:    h.broker.Indexed(),
		MirrorOff:  h.cfg.NoMirror,
		SweeperOff: h.cfg.NoSweeper,
	}
	s.DiskInodes, s.DiskInodeFloor = disk.Inodes, disk.InodeFloor
	if s.DiskReadOnly = disk.Full && disk.Lack == broker.LackWriting; s.DiskFull {
		s.DiskLacks = disk.Lack
	}
	if c := h.cfg.Serve.Cluster; c != nil {
		s.Cluster = c.Name
	}
	if err := broker.CheckEngine(); err != nil {
		s.Unchecked = err.Error()
	}
	damage := h.broker.Damage()
	s.Damaged = damage.Found
	if !damage.Checked.IsZero() {
		s.Checked = damage.Checked.UnixMilli()
	}
	if p := h.progress.Load(); p != nil {
		s.MirrorSeq, s.MirrorLines, s.SetAside = p.Seq, p.Lines, p.SetAside
		if p.Err != nil {
			s.MirrorError = p.Err.Error()
		}
	}
	if err := h.mirrorError(); err != nil {
		s.MirrorError = err.Error()
	}
	if err := h.sweepErr.Load(); err != nil {
		s.SweepError = (*err).Error()
	}
	return s
}

func (h *host) answerStatus(m *nats.Msg) {
	b, err := json.Marshal(h.status())
	if err == nil {
		_ = m.Respond(b) // whoever asked has gone, or asks again
	}
}

// HostStatus asks the host about itself.
func (d *DurableStream) HostStatus(ctx context.Context) (HostStatus, error) {
	if h := d.hosting.now(); h != nil {
		return h.status(), nil
	}
	// In a cluster all nodes answer: the one that this process is connected to counts.
	var s HostStatus
	name := d.nc.ConnectedServerName()
	answers := d.Statuses(ctx, func(b []byte) bool {
		return json.Unmarshal(b, &s) == nil && (s.Cluster == "" || s.Name == name)
	})
	if len(answers) == 0 {
		return s, errors.New("durablestream: the host does not tell its status: it gives no answer")
	}
	if err := json.Unmarshal(answers[len(answers)-1], &s); err != nil {
		return s, fmt.Errorf("durablestream: the host does not tell its status: %w", err)
	}
	return s, nil
}
