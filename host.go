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
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/mirror"
	"durablestream/sweeper"
)

// host is what runs in the process that hosts: the broker, the mirror and the
// sweeper.
type host struct {
	broker *broker.Broker
	since  time.Time

	stopSweep context.CancelFunc // nil without a sweeper
	swept     chan error
	sweepErr  atomic.Pointer[error]

	progress atomic.Pointer[mirror.Progress]
	stop     context.CancelFunc // of the mirror; nil without one
	done     chan struct{}

	mu  sync.Mutex // guards err
	err error      // what ended the mirror
}

// open makes this process the host. The address is written last: others join only
// a log whose mirror fits it.
func open(ctx context.Context, cfg Config) (_ *DurableStream, err error) {
	b, err := broker.Start(ctx, broker.Config{
		Dir:             filepath.Join(cfg.Dir, HostDir),
		Listen:          cfg.Listen,
		DuplicateWindow: cfg.DuplicateWindow,
		DiskFloor:       cfg.DiskFloor,
		Version:         Version,
		Restoring:       cfg.Restoring,
		Logger:          cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	h := &host{broker: b, since: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
		}
	}()
	nc, err := b.Connect(nats.Name("dstream host"))
	if err != nil {
		return nil, err
	}
	d, err := attach(ctx, cfg, nc, h)
	if err != nil {
		return nil, err
	}
	mcfg := h.mirrorConfig(d)
	if !cfg.NoMirror {
		err = mirror.Check(ctx, mcfg)
	}
	if err == nil && !cfg.NoMirror && cfg.CheckMirror {
		err = checkWhole(ctx, mcfg)
	}
	if err == nil {
		_, err = nc.Subscribe(wire.StatusSubject, func(m *nats.Msg) { h.answerStatus(m) })
	}
	if err == nil && !cfg.NoMirror {
		h.startMirror(mcfg)
	}
	if err == nil && !cfg.NoSweeper {
		err = h.startSweeper(ctx, sweeper.Config{Client: d.Client, Logger: cfg.Logger})
	}
	if err == nil {
		err = b.Advertise()
	}
	if err != nil {
		err = errors.Join(err, h.stopSweeper(), h.stopMirror())
		d.Client.Close()
		nc.Close()
		return nil, err
	}
	return d, nil
}

// checkWhole looks for damage in the middle of the files. What only a crash left
// at their end is for the mirror to mend.
func checkWhole(ctx context.Context, cfg mirror.Config) error {
	const most = 256 << 20 // some three seconds
	if size, err := mirror.Size(cfg.Dir); err != nil || size > most {
		return err
	}
	cfg.VerifyWait = -1
	report, err := mirror.Verify(ctx, cfg)
	var behind *mirror.BehindError
	var torn *mirror.TornError
	if err != nil || errors.As(report.Problem, &behind) || errors.As(report.Problem, &torn) {
		return err
	}
	return report.Problem
}

// startSweeper decides what is due, and goes on doing so until stopSweeper. What
// expired while nobody hosted is decided before anybody can join.
func (h *host) startSweeper(ctx context.Context, cfg sweeper.Config) error {
	if _, err := sweeper.Sweep(ctx, cfg); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.Background())
	h.stopSweep, h.swept = cancel, make(chan error, 1)
	go func() {
		err := sweeper.Run(run, cfg)
		if err != nil {
			h.sweepErr.Store(&err)
		}
		h.swept <- err
	}()
	return nil
}

func (h *host) stopSweeper() error {
	if h.stopSweep == nil {
		return nil
	}
	h.stopSweep()
	return <-h.swept
}

func (h *host) mirrorConfig(d *DurableStream) mirror.Config {
	return mirror.Config{
		Client:   d.Client,
		Dir:      d.cfg.Dir,
		MaxBytes: d.cfg.MirrorMaxBytes,
		Logger:   d.cfg.Logger,
		Drain:    mirrorDrain,
		Progress: func(p mirror.Progress) { h.progress.Store(&p) },
	}
}

const (
	// mirrorDrain bounds how long Close writes the mirror: a gigabyte of backlog.
	mirrorDrain = time.Minute
	// mirrorPatience is how long Close waits for another process's mirror.
	mirrorPatience = 5 * time.Second
)

// startMirror runs the mirror until stopMirror, or until damage ends it: that is
// an alarm of status, and the log goes on. While another process has the file, it
// waits for it.
func (h *host) startMirror(cfg mirror.Config) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.done = cancel, make(chan struct{})
	go func() {
		defer close(h.done)
		var deadline time.Time
		for {
			err := mirror.Run(ctx, cfg)
			var busy *mirror.BusyError
			if !errors.As(err, &busy) {
				h.mirrorEnded(err)
				if err != nil {
					cfg.Logger.Error("the mirror has stopped", "err", err)
				}
				return
			}
			// A host that went before is writing its last lines.
			switch {
			case ctx.Err() == nil:
				deadline = time.Now().Add(mirrorPatience)
			case time.Now().After(deadline):
				h.mirrorEnded(err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func (h *host) mirrorEnded(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *host) mirrorError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// stopMirror waits until the file has what the Log holds.
func (h *host) stopMirror() error {
	if h.stop == nil {
		return nil
	}
	h.stop()
	<-h.done
	return h.mirrorError()
}

// HostStatus is what the host says of itself.
type HostStatus struct {
	PID         int            `json:"pid"`
	Since       int64          `json:"since"` // Unix ms
	Version     string         `json:"version"`
	Endpoint    string         `json:"endpoint"`
	DiskFree    int64          `json:"disk_free"`  // bytes; -1 unknown
	DiskFloor   int64          `json:"disk_floor"` // bytes; negative: not watched
	DiskFull    bool           `json:"disk_full"`  // appends are refused
	MirrorSeq   event.Sequence `json:"mirror_seq"` // the last Sequence the mirror has dealt with
	MirrorLines uint64         `json:"mirror_lines"`
	MirrorOff   bool           `json:"mirror_off,omitempty"`
	MirrorError string         `json:"mirror_error,omitempty"`
	SweepError  string         `json:"sweeper_error,omitempty"`
	SetAside    uint64         `json:"set_aside,omitempty"`
}

func (h *host) status() HostStatus {
	disk := h.broker.Disk()
	s := HostStatus{
		PID:       os.Getpid(),
		Since:     h.since.UnixMilli(),
		Version:   Version,
		Endpoint:  h.broker.Address().URL,
		DiskFree:  disk.Free,
		DiskFloor: disk.Floor,
		DiskFull:  disk.Full,
		MirrorOff: h.stop == nil,
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
	if d.host != nil {
		return d.host.status(), nil
	}
	var s HostStatus
	m, err := d.nc.RequestWithContext(ctx, wire.StatusSubject, nil)
	if err == nil {
		err = json.Unmarshal(m.Data, &s)
	}
	if err != nil {
		return s, fmt.Errorf("durablestream: the host does not tell its status: %w", err)
	}
	return s, nil
}
