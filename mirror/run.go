package mirror

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"durablestream/event"
	"durablestream/internal/wait"
)

const (
	// idleCheck is how often an idle mirror asks whether its Log is still the one
	// that it was.
	idleCheck = 5 * time.Second

	firstRetry, lastRetry = 5 * time.Millisecond, time.Second
)

// errReplaced means that the Log may not be the same as before.
var errReplaced = errors.New("the Log was replaced or rolled back")

// runner writes the gathered batches until its context ends.
//
// A feed continues through restarts of the broker, and cannot distinguish one Log from
// another: if the store were lost and a new Log begun, the feed would wait until the new
// Log has passed its position, and continue there. So before the runner writes a batch,
// and now and then while there is none, it asks for the Log's creation time and position.
// It asks after it has read the batch: if the Log is still the same, the batch came from
// this Log. In doubt the runner drops the batch and starts again from the end of the
// files, with all the checks of a resume.
type runner struct {
	cfg      Config
	w        *writer
	g        *gather
	created  time.Time // of the Log
	progress Progress
	flushed  time.Time // the end of the last batch
}

func newRunner(cfg Config) *runner {
	return &runner{cfg: cfg, progress: Progress{
		File: filepath.Join(cfg.Dir, ActiveName), Since: cfg.now()}}
}

// run runs until ctx ends, and then until the Log's position as of that moment is
// written, or Drain has passed.
func (r *runner) run(ctx context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	drain := make(chan *time.Timer, 1)
	stop := context.AfterFunc(ctx, func() { drain <- time.AfterFunc(max(0, r.cfg.Drain), cancel) })
	defer func() {
		if !stop() {
			(<-drain).Stop()
		}
	}()
	for {
		err := r.resume(ctx, hard)
		if !errors.Is(err, errReplaced) {
			return err
		}
		r.cfg.Logger.Warn("mirror: checking against the Log again", "file", r.progress.File, "err", err)
	}
}

// resume continues from the end of the files.
func (r *runner) resume(ctx, hard context.Context) error {
	e, err := findEnds(r.cfg.Dir)
	if err != nil {
		return err
	}
	st, err := e.check(hard, r.cfg.Client)
	if err != nil {
		return err
	}
	r.created = st.Created
	if r.w, err = openWriter(r.cfg, e); err != nil {
		return err
	}
	defer r.w.close()
	at, c := begin(st)-1, origin
	if e.newest != nil {
		at, c = e.newest.Recorded.Seq, chain([]byte(e.newest.Chain))
	}
	r.progress.Seq = at
	r.cfg.Progress(r.progress)

	r.g = newGather(r.cfg, at, c)
	r.g.ask = r.sameLog
	filling, stopFilling := context.WithCancel(hard)
	done := make(chan struct{})
	go func() { defer close(done); r.g.run(filling) }()
	defer func() { stopFilling(); <-done }()
	return r.loop(ctx, hard)
}

func (r *runner) loop(ctx, hard context.Context) error {
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	ending := ctx.Done()
	var until event.Sequence // where to end, once ctx has ended
	for {
		checking := false
		select {
		case <-r.g.wake:
		case <-due.C:
		case <-idle.C:
			checking = true
		case <-ending:
			ending = nil
			p, err := r.cfg.Client.Position(hard)
			if err != nil {
				return nil // the Log is away: the next run goes on from here
			}
			until = p
		case <-hard.Done():
		}
		b, ended, err := r.g.look()
		last := ended || hard.Err() != nil || ending == nil && max(b.at, r.progress.Seq) >= until
		rest := r.until(b)
		switch {
		case b.lines == 0 && checking:
			err = errors.Join(err, r.sameWhileIdle(hard))
		case !b.moved:
		case b.lines == 0 || last || rest <= 0:
			if failed := r.flush(hard); failed != nil {
				return r.result(ctx, failed)
			}
		default:
			due.Reset(rest)
		}
		if last || err != nil {
			return r.result(ctx, err)
		}
	}
}

// result returns Run's error after err. When the time is over, events that are not written
// yet are no error, because the Log has them. A disk that cannot be written is one.
func (r *runner) result(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if r.progress.Err != nil {
		return r.progress.Err
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// until is how long the batch may still wait.
func (r *runner) until(b batch) time.Duration {
	if len(b.data) >= r.cfg.batchBytes {
		return 0
	}
	due := b.begun.Add(batchTime)
	if pause := r.flushed.Add(batchPause); b.pending == 0 && pause.Before(due) {
		due = pause
	}
	return time.Until(due)
}

// flush writes the batch. It retries until it succeeds, ctx ends or the error is
// hopeless.
func (r *runner) flush(ctx context.Context) error {
	b := r.g.take()
	if b.lines > 0 {
		if err := r.asked(ctx, b); err != nil {
			return err
		}
		for pause := (wait.Backoff{First: firstRetry, Most: lastRetry}); ; {
			err := r.w.write(b)
			if err == nil {
				break
			}
			if hopeless(err) {
				return err
			}
			r.failed(b, err)
			if pause.Wait(ctx) != nil {
				return err
			}
		}
		r.flushed = time.Now()
		r.g.reuse(b)
		r.progress.Lag = max(0, r.cfg.now().Sub(b.since))
	}
	if r.progress.Err != nil {
		r.progress.Err, r.progress.Since = nil, r.cfg.now()
		r.cfg.Logger.Info("mirror: writing again", "file", r.w.path)
	}
	r.progress.Seq, r.progress.Pending = b.at, b.pending
	r.progress.Lines += b.lines
	r.progress.SetAside += b.setAside
	r.cfg.Progress(r.progress)
	return nil
}

// failed reports a failed write, which flush will retry.
func (r *runner) failed(b *batch, err error) {
	if r.progress.Err == nil {
		r.progress.Since = r.cfg.now()
		r.cfg.Logger.Warn("mirror: cannot write, trying again", "file", r.w.path, "err", err)
	}
	r.progress.Err = err
	r.progress.Lag = max(0, r.cfg.now().Sub(b.since))
	r.cfg.Progress(r.progress)
}

// asked is sameLog for a batch. A full one was asked about when it became full, while
// the one before it was written: an answer takes as long as a write.
func (r *runner) asked(ctx context.Context, b *batch) error {
	if b.same == nil {
		return r.sameLog(ctx, b.at)
	}
	select {
	case err := <-b.same:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sameWhileIdle is sameLog while there is no batch.
func (r *runner) sameWhileIdle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := r.sameLog(ctx, r.progress.Seq)
	if err != nil && ctx.Err() != nil && !errors.Is(err, errReplaced) {
		return nil // the Log is away for the moment: nothing is written either
	}
	return err
}

// sameLog checks, after the runner has read up to at, that the Log is still the same one:
// created at the same time, and not shorter than at. It returns errReplaced if there is
// doubt.
func (r *runner) sameLog(ctx context.Context, at event.Sequence) error {
	st, err := r.cfg.Client.Admin().State(ctx)
	switch {
	case err != nil:
		return err
	case st.Created.Equal(r.created) && st.Last >= at:
		return nil
	case st.Created.Equal(r.created) && st.Config.Replicas > 1:
		// Perhaps an old leader answered: do not run in circles until it has gone.
		if _, err := reached(ctx, r.cfg.Client, r.w.path, at); err != nil {
			return err
		}
	}
	return errReplaced
}
