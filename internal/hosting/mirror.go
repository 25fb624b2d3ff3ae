package hosting

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"durablestream/broker"
	"durablestream/internal/wait"
	"durablestream/mirror"
)

// mirroring runs the mirror of a host. The zero value runs none.
type mirroring struct {
	cfg      mirror.Config
	progress atomic.Pointer[mirror.Progress]

	stop context.CancelFunc // nil before start
	done chan struct{}

	mu  sync.Mutex // guards err
	err error      // the error that ended the mirror
}

const (
	// mirrorDrain bounds the time of Close for the mirror: enough for a gigabyte of
	// backlog.
	mirrorDrain = time.Minute
	// mirrorPatience is how long Close waits for another process's mirror.
	mirrorPatience = 5 * time.Second
	// mirrorRetry is how often a mirror that stopped at a gap in the log checks whether
	// the gap was repaired.
	mirrorRetry = 5 * time.Second
)

// onlyMirror returns an error if a new Log would begin beside the mirror of another one. It
// does so before anything is created. If there is a store, check reports this later; if the
// store was lost, the broker does.
func (c Config) onlyMirror() error {
	if c.NoMirror || c.NoCreate || c.Restoring || c.takingOver || c.expect != "" || c.copied != "" || c.Node.Cluster != nil || c.stored() {
		return nil
	}
	if lost, err := broker.Lost(c.HostDir); err != nil || lost {
		return nil //nolint:nilerr // the broker reports it
	}
	err := mirror.CheckNoLog(c.Dir)
	if c.stored() { // another process hosts by now, and the mirror may be its mirror
		return nil
	}
	return err
}

// stored reports whether there is a store, or may be one.
func (c Config) stored() bool {
	_, err := os.Lstat(c.store())
	return !errors.Is(err, fs.ErrNotExist)
}

// use sets the mirror's files and its log.
func (m *mirroring) use(cfg mirror.Config) {
	m.cfg = cfg
	m.cfg.Drain = mirrorDrain
	m.cfg.Progress = func(p mirror.Progress) { m.progress.Store(&p) }
}

// check requires that the mirror's files are undamaged and this Log's; with whole it
// reads all of them. A Log that has lost a message is not a fault of the files: the Log
// continues, its readers get an error, and the mirror stops at the loss.
func (m *mirroring) check(ctx context.Context, whole bool) error {
	err := mirror.Check(ctx, m.cfg)
	if err == nil && whole {
		err = checkWhole(ctx, m.cfg)
	}
	var gap *mirror.GapError
	if errors.As(err, &gap) {
		m.cfg.Logger.Error("the log is damaged, and goes on", "err", err)
		return nil
	}
	return err
}

// checkWhole searches for damage in the middle of the files. The mirror itself repairs
// what a crash leaves at their end.
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

// start runs the mirror until end, or until damage to its files ends it: status then has
// an alarm, and the log continues. At a gap in the log the mirror stops with an alarm,
// and continues when the gap is repaired. While another process has the file, it waits.
func (m *mirroring) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	cfg := m.cfg
	var gap *mirror.GapError // the gap at which it has stopped
	cfg.Progress = func(p mirror.Progress) {
		if gap != nil && p.Seq > gap.After {
			gap = nil
			m.ended(nil)
			cfg.Logger.Info("the log was mended, and the mirror goes on")
		}
		m.cfg.Progress(p)
	}
	go func() {
		defer close(m.done)
		var deadline time.Time
		for {
			err := mirror.Run(ctx, cfg)
			var busy *mirror.BusyError
			var hole *mirror.GapError
			switch {
			case errors.As(err, &hole):
				if gap == nil {
					cfg.Logger.Error("the mirror has stopped", "err", err)
				}
				gap = hole
				m.ended(err)
				if wait.For(ctx, mirrorRetry) != nil {
					return
				}
			case !errors.As(err, &busy):
				if err != nil {
					cfg.Logger.Error("the mirror has stopped", "err", err)
				}
				if err != nil || gap == nil {
					m.ended(err)
				}
				return
			// An earlier host is writing its last lines. Run has waited for the lock, for
			// a moment, and waits again.
			case ctx.Err() == nil:
				deadline = time.Now().Add(mirrorPatience)
			case time.Now().After(deadline):
				m.ended(err)
				return
			}
		}
	}()
}

// catchUp waits until the mirror has written everything that the Log holds now, or has
// ended.
func (m *mirroring) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), mirrorDrain)
	defer cancel()
	end, err := m.cfg.Client.Position(ctx)
	if err != nil {
		return // end returns the reason
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if p := m.progress.Load(); p != nil && (p.Seq >= end || p.Err != nil) || m.why() != nil {
			return
		}
		select {
		case <-m.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// end waits until the file has everything that the Log holds.
func (m *mirroring) end() error {
	if m.stop == nil {
		return nil
	}
	m.stop()
	<-m.done
	return m.why()
}

func (m *mirroring) ended(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// why is the error that ended the mirror; nil while it runs.
func (m *mirroring) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
