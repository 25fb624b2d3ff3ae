package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/status"
	"durablestream/internal/sweeper"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

func mirrorRunCommand(o *options) *cobra.Command {
	r := mirrorRun{o: o}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Write the mirror of a log that other processes host, until interrupted",
		Long: `Keeps the JSONL file in --dir equal to the log, as a process of its own: of a
cluster or of other servers (--server), or of the host in --dir if that does not do it
itself. Any number may run: those in different directories write equal files; of
those in one directory one writes, and the others stand by. With --sweeper it also
decides what time decides, which any number may do, too. It waits for servers that are
away. Interrupt it (Ctrl-C, SIGTERM) to stop: what the log holds is written first.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	cmd.Flags().BoolVar(&r.sweep, "sweeper", false, "also decide what time decides")
	cmd.Flags().Int64Var(&r.maxBytes, "mirror-max-bytes", 64<<20, "size at which the JSONL file is rotated")
	r.monitor.register(cmd.Flags())
	return cmd
}

// mirrorRun is a mirror, and perhaps a sweeper, without a host.
type mirrorRun struct {
	o        *options
	sweep    bool
	maxBytes int64
	monitor  monitorFlags
	watched  *status.Watched
	words    io.Writer
	said     string
}

const (
	mirrorRetry = time.Second // between tries to open the log, and to get the files
	mirrorDrain = time.Minute // for the last lines
)

// say tells something once, until something else is told.
func (r *mirrorRun) say(format string, v ...any) {
	if words := fmt.Sprintf(format, v...); words != r.said {
		r.said = words
		fmt.Fprintln(r.words, "dstream: "+words)
	}
}

func (r *mirrorRun) run(cmd *cobra.Command) error {
	r.words = cmd.ErrOrStderr()
	ctx := cmd.Context()
	store := filepath.Join(r.o.dir, durablestream.HostDir, broker.StoreDir)
	if _, err := os.Stat(store); err == nil && len(r.o.servers) > 0 {
		return usage(fmt.Errorf("%s has a store, whose own host writes the mirror there: give another --dir, or no --server", r.o.dir))
	}
	if err := place.AsOwner(r.o.dir); err != nil {
		return err
	}
	if len(r.o.servers) == 0 {
		if err := place.Demand(r.o.dir); err != nil {
			return err
		}
	}
	var typo *paths.ParentError
	if err := errors.Join(paths.NoLogLink(paths.Absolute(r.o.dir)), paths.MakeDir(paths.Absolute(r.o.dir))); errors.As(err, &typo) {
		return usage(err)
	} else if err != nil {
		return err
	}
	watched, err := r.monitor.watch(status.WatchConfig{Mirror: true, Logger: r.o.config(cmd).Logger})
	if err != nil {
		return err
	}
	defer watched.Stop()
	r.watched = watched
	for {
		err := r.session(cmd)
		switch {
		case ctx.Err() != nil:
			return err
		case err == nil || lasting(err):
			return err
		}
		r.say("waiting for the log: %v", err)
		watched.Closed(r.said)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(mirrorRetry):
		}
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
	var weak *wire.WeakLogError
	var newer *wire.NewerFormatError
	return errors.As(err, &server) || errors.As(err, &weak) || errors.As(err, &newer)
}

// openError is a log that could not be opened.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// session opens the log and mirrors it until the command is interrupted (nil), or
// until there is no going on with this log.
func (r *mirrorRun) session(cmd *cobra.Command) (err error) {
	d, err := r.o.open(cmd, func(cfg *durablestream.Config) { cfg.JoinOnly, cfg.NoMirror, cfg.NoCreate = true, true, true })
	if err != nil {
		if cmd.Context().Err() != nil {
			return nil
		}
		return &openError{err}
	}
	defer closing(d, &err)
	r.watched.Opened(d)
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	swept := make(chan error, 1)
	if r.sweep {
		go func() {
			swept <- sweeper.Run(ctx, sweeper.Config{Client: d.Client, Logger: r.o.config(cmd).Logger})
			cancel()
		}()
	} else {
		swept <- nil
	}
	err = r.mirror(ctx, cmd, d)
	cancel()
	if serr := <-swept; err == nil {
		err = serr
	}
	return err
}

// mirror writes the files, or stands by while another process does.
func (r *mirrorRun) mirror(ctx context.Context, cmd *cobra.Command, d *durablestream.DurableStream) error {
	last := mirror.Progress{}
	cfg := mirror.Config{
		Client: d.Client, Dir: d.Dir(), MaxBytes: r.maxBytes, Drain: mirrorDrain,
		Logger: r.o.config(cmd).Logger,
		Progress: func(p mirror.Progress) {
			switch {
			case p.Err != nil:
				r.say("cannot write the mirror, trying again: %v", p.Err)
			default:
				r.say("mirroring the log of %s into %s", r.source(), durablestream.MirrorPath(d.Dir()))
			}
			last = p
			r.watched.Mirrored(p)
		},
	}
	for {
		err := error(&mirror.BusyError{})
		if !r.hostWrites(ctx, d) {
			err = mirror.Run(ctx, cfg)
		}
		var busy *mirror.BusyError
		if !errors.As(err, &busy) {
			if err == nil && cmd.Context().Err() != nil {
				fmt.Fprintf(r.words, "stopped: the mirror has everything up to position %d\n", last.Seq)
			}
			return err
		}
		if busy.Path != "" {
			r.say("another process writes the mirror in %s (it has the lock %s); this process stands by", d.Dir(), busy.Path)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(mirrorRetry):
		}
	}
}

func (r *mirrorRun) source() string {
	if len(r.o.servers) > 0 {
		return fmt.Sprint(r.o.servers)
	}
	return "the host in " + r.o.dir
}

// hostWrites reports that the project's host writes these files, and says so. Then
// they are left to it, also while it is away: it could not start if this process had
// them.
func (r *mirrorRun) hostWrites(ctx context.Context, d *durablestream.DurableStream) bool {
	if len(r.o.servers) > 0 {
		return false
	}
	s, err := d.HostStatus(ctx)
	if err != nil || s.MirrorOff {
		return err != nil
	}
	r.say("the host, process %d, writes the mirror in %s itself; this process stands by", s.PID, d.Dir())
	return true
}
