package hosting

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"durablestream/mirror"
)

// mirroring runs the mirror of a host. The zero value runs none.
type mirroring struct {
	cfg      mirror.Config
	progress atomic.Pointer[mirror.Progress]

	stop context.CancelFunc // nil before start
	done chan struct{}

	mu  sync.Mutex // guards err
	err error      // what ended the mirror
}

const (
	// mirrorDrain bounds how long Close writes the mirror: a gigabyte of backlog.
	mirrorDrain = time.Minute
	// mirrorPatience is how long Close waits for another process's mirror.
	mirrorPatience = 5 * time.Second
	// mirrorRetry is how often a mirror that has met a hole in the log looks whether the
	// hole was repaired.
	mirrorRetry = 5 * time.Second
)

// use says which files the mirror is, and of what.
func (m *mirroring) use(cfg mirror.Config) {
	m.cfg = cfg
	m.cfg.Drain = mirrorDrain
	m.cfg.Progress = func(p mirror.Progress) { m.progress.Store(&p) }
}

// check demands that the mirror's files are whole and this Log's; with whole it reads
// all of them. A Log that has lost something is not their fault: it goes on, its readers
// are told, and the mirror stops where it is not what it should be.
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

// checkWhole looks for damage in the middle of the files. What only a crash left
// at their end is for the mirror to repair.
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

// start runs the mirror until end, or until damage to its files ends it: that is an alarm
// of status, and the log goes on. At a hole in the log it stops with an alarm, and goes on
// when the hole was repaired. While another process has the file, it waits for it.
func (m *mirroring) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	cfg := m.cfg
	var gap *mirror.GapError // where it has stopped
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
				wait := time.NewTimer(mirrorRetry)
				select {
				case <-ctx.Done():
					wait.Stop()
					return
				case <-wait.C:
				}
			case !errors.As(err, &busy):
				if err != nil {
					cfg.Logger.Error("the mirror has stopped", "err", err)
				}
				if err != nil || gap == nil {
					m.ended(err)
				}
				return
			// A host that went before is writing its last lines. Run has waited for the
			// lock, for a moment, and does so again.
			case ctx.Err() == nil:
				deadline = time.Now().Add(mirrorPatience)
			case time.Now().After(deadline):
				m.ended(err)
				return
			}
		}
	}()
}

// catchUp waits until the mirror has written what the Log holds now, or has ended.
func (m *mirroring) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), mirrorDrain)
	defer cancel()
	end, err := m.cfg.Client.Position(ctx)
	if err != nil {
		return // end tells what is wrong
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

// end waits until the file has what the Log holds.
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

// why is what ended the mirror; nil while it runs.
func (m *mirroring) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
