package durablestream

import (
	"context"
	"errors"
	"time"

	"durablestream/mirror"
)

// catchUp waits until the mirror has written what the Log holds now, or has ended.
func (h *host) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), mirrorDrain)
	defer cancel()
	end, err := h.client.Position(ctx)
	if err != nil {
		return // endMirror tells what is wrong
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if p := h.progress.Load(); p != nil && (p.Seq >= end || p.Err != nil) || h.mirrorError() != nil {
			return
		}
		select {
		case <-h.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkMirror demands that the mirror's files are whole and this Log's. A Log that has
// lost something is not their fault: it goes on, its readers are told, and the mirror
// stops where it is not what it should be.
func (h *host) checkMirror(ctx context.Context) error {
	cfg := h.mirrorConfig()
	err := mirror.Check(ctx, cfg)
	if err == nil && h.cfg.CheckMirror {
		err = checkWhole(ctx, cfg)
	}
	var gap *mirror.GapError
	if errors.As(err, &gap) {
		h.cfg.Logger.Error("the log is damaged, and goes on", "err", err)
		return nil
	}
	return err
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

func (h *host) mirrorConfig() mirror.Config {
	return mirror.Config{
		Client:   h.client,
		Dir:      h.cfg.Dir,
		MaxBytes: h.cfg.MirrorMaxBytes,
		Logger:   h.cfg.Logger,
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

// mirrorRetry is how often a mirror that has met a hole in the log looks whether it was
// mended.
const mirrorRetry = 5 * time.Second

// startMirror runs the mirror until endMirror, or until damage to its files ends it:
// that is an alarm of status, and the log goes on. At a hole in the log it stops with an
// alarm, and goes on when that was mended. While another process has the file, it waits
// for it.
func (h *host) startMirror(cfg mirror.Config) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stopMirror, h.done = cancel, make(chan struct{})
	var gap *mirror.GapError // where it has stopped
	tell := cfg.Progress
	cfg.Progress = func(p mirror.Progress) {
		if gap != nil && p.Seq > gap.After {
			gap = nil
			h.mirrorEnded(nil)
			cfg.Logger.Info("the log was mended, and the mirror goes on")
		}
		tell(p)
	}
	go func() {
		defer close(h.done)
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
				h.mirrorEnded(err)
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
					h.mirrorEnded(err)
				}
				return
			// A host that went before is writing its last lines. Run has waited for the
			// lock, for a moment, and does so again.
			case ctx.Err() == nil:
				deadline = time.Now().Add(mirrorPatience)
			case time.Now().After(deadline):
				h.mirrorEnded(err)
				return
			}
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

// endMirror waits until the file has what the Log holds.
func (h *host) endMirror() error {
	if h.stopMirror == nil {
		return nil
	}
	h.stopMirror()
	<-h.done
	return h.mirrorError()
}
