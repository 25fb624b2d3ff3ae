// Package mirrorrun writes the mirror of a log that other processes host, and perhaps
// enforces its deadlines, until it is interrupted.
package mirrorrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/status"
	"durablestream/internal/sweeper"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// Config says which log is mirrored, and where to.
type Config struct {
	Dir     string   // of the mirror
	Servers []string // that hold the log; none: the host in Dir does
	// Open joins the log, and neither hosts it nor writes its mirror.
	Open     func() (*durablestream.DurableStream, error)
	Sweep    bool // run the sweeper too
	MaxBytes int64
	Watched  *status.Watched
	Words    io.Writer
	Logger   *slog.Logger
}

// run is one Run.
type run struct {
	Config
	said string
}

const (
	mirrorRetry = time.Second // between tries to open the log, and to get the files
	mirrorDrain = time.Minute // for the last lines
)

// Run mirrors the log until ctx ends, and then writes what the log holds. It waits for a log
// that cannot be opened; what waiting does not mend is its error.
func Run(ctx context.Context, cfg Config) error {
	r := &run{Config: cfg}
	for {
		err := r.session(ctx)
		switch {
		case ctx.Err() != nil:
			return err
		case err == nil || lasting(err):
			return err
		}
		r.say("waiting for the log: %v", err)
		r.Watched.Closed(r.said)
		if wait.For(ctx, mirrorRetry) != nil {
			return nil //nolint:nilerr // the end of ctx is no failure
		}
	}
}

// say logs a message once, until there is another one.
func (r *run) say(format string, v ...any) {
	if words := fmt.Sprintf(format, v...); words != r.said {
		r.said = words
		fmt.Fprintln(r.Words, "dstream: "+words)
	}
}

// lasting reports an error that waiting does not mend.
func lasting(err error) bool {
	if errors.Is(err, client.ErrNoLog) || errors.Is(err, client.ErrOtherLog) || errors.Is(err, wire.ErrRestoring) {
		return false
	}
	var open *openError
	if !errors.As(err, &open) {
		return true // the mirror's own: its files, or damage
	}
	var server *client.WeakServerError
	var weak *event.WeakLogError
	var newer *event.NewerFormatError
	return errors.As(err, &server) || errors.As(err, &weak) || errors.As(err, &newer)
}

// openError is a log that could not be opened.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// session opens the log and mirrors it until the command is interrupted (nil), or
// until there is no going on with this log.
func (r *run) session(parent context.Context) (err error) {
	d, err := r.Open()
	if err != nil {
		if parent.Err() != nil {
			return nil
		}
		return &openError{err}
	}
	defer func() {
		if cerr := d.Close(); err == nil {
			err = cerr
		}
	}()
	r.Watched.Opened(d)
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	swept := make(chan error, 1)
	if r.Sweep {
		go func() {
			swept <- sweeper.Run(ctx, sweeper.Config{Client: d.Client(), Logger: r.Logger})
			cancel()
		}()
	} else {
		swept <- nil
	}
	err = r.mirror(ctx, parent, d)
	cancel()
	if serr := <-swept; err == nil {
		err = serr
	}
	return err
}

// mirror writes the files, or stands by while another process does.
func (r *run) mirror(ctx, parent context.Context, d *durablestream.DurableStream) error {
	last := mirror.Progress{}
	cfg := mirror.Config{
		Client: d.Client(), Dir: d.Dir(), MaxBytes: r.MaxBytes, Drain: mirrorDrain,
		Logger: r.Logger,
		Progress: func(p mirror.Progress) {
			switch {
			case p.Err != nil:
				r.say("cannot write the mirror, trying again: %v", p.Err)
			default:
				r.say("mirroring the log of %s into %s", r.source(), durablestream.MirrorPath(d.Dir()))
			}
			last = p
			r.Watched.Mirrored(p)
		},
	}
	for {
		err := error(&mirror.BusyError{})
		if !r.hostWrites(ctx, d) {
			err = mirror.Run(ctx, cfg)
		}
		var busy *mirror.BusyError
		if !errors.As(err, &busy) {
			if err == nil && parent.Err() != nil {
				fmt.Fprintf(r.Words, "stopped: the mirror has everything up to position %d\n", last.Seq)
			}
			return err
		}
		if busy.Path != "" {
			r.say("another process writes the mirror in %s (it has the lock %s); this process stands by", d.Dir(), busy.Path)
		}
		if wait.For(ctx, mirrorRetry) != nil {
			return nil //nolint:nilerr // the end of ctx is no failure
		}
	}
}

func (r *run) source() string {
	if len(r.Servers) > 0 {
		return fmt.Sprint(r.Servers)
	}
	return "the host in " + r.Dir
}

// hostWrites reports that the project's host writes these files, and says so. Then
// they are left to it, also while it is away: it could not start if this process had
// them.
func (r *run) hostWrites(ctx context.Context, d *durablestream.DurableStream) bool {
	if len(r.Servers) > 0 {
		return false
	}
	s, err := d.Admin().HostStatus(ctx)
	if err != nil || s.MirrorOff {
		return err != nil
	}
	r.say("the host, process %d, writes the mirror in %s itself; this process stands by", s.PID, d.Dir())
	return true
}
