package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/console"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/status"
	"durablestream/mirror"
)

// options are the flags that every command takes.
type options struct {
	dir string
	// worktree is git's name of the linked work tree that the command is given in.
	worktree string
	shared   bool // dir is only where a work tree would have a log of its own
	servers  []string
	nkey     string
	tls      client.TLSFiles
	json     bool
	verbose  bool

	monitors     []string
	acceptWeaker bool

	timed bool // the command's context has the end that --timeout gives it
}

// config translates the flags.
func (o *options) config(cmd *cobra.Command) durablestream.Config {
	var log slog.Handler = console.Handler(cmd.ErrOrStderr())
	if o.verbose {
		log = slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	return durablestream.Config{
		Dir:     o.dir,
		Servers: o.servers,
		NKey:    o.nkey,
		TLS:     o.tls,
		Logger:  slog.New(log),

		Worktree: o.worktree,

		ServerMonitor:          o.monitors,
		AcceptWeakerDurability: o.acceptWeaker,
		Command:                durablestream.Command{NoCreate: !slices.Contains(creators, cmd.Name())},
	}
}

// fromEnv is a flag's default from the environment.
func fromEnv(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }

func serversFromEnv() []string {
	if s := os.Getenv("DSTREAM_SERVER"); s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

// creators are the commands that create a log where there is none. The others say that
// there is none.
var creators = []string{"serve", "append", "import", "restore", "request", "create", "rpc"}

// openWait is how long a command without --timeout waits for a host that does not answer,
// or for servers. A host that is starting it waits for, and says so.
const openWait = 10 * time.Second

// lingerMost is how long a command that has hosted the log for its own purpose goes on for
// commands that have just joined it.
const lingerMost = 3 * time.Second

// within bounds what is left of a command by its --timeout, of which opening the log is a
// part; 0 is no bound.
func (o *options) within(cmd *cobra.Command, timeout time.Duration) context.CancelFunc {
	o.timed = true
	if timeout == 0 {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	cmd.SetContext(ctx)
	return cancel
}

// open opens the log, waiting a bounded time.
func (o *options) open(cmd *cobra.Command, change ...func(*durablestream.Config)) (*durablestream.DurableStream, error) {
	cfg := o.config(cmd)
	for _, f := range change {
		f(&cfg)
	}
	if len(cfg.Servers) == 0 {
		if err := place.AsOwner(o.dir); err != nil {
			return nil, err
		}
	}
	ctx := cmd.Context()
	if cfg.Serve.Cluster == nil && !o.timed { // a node waits for the others, and says so
		cfg.Command.Wait = openWait
	}
	if cmd.Name() != "serve" { // its host is asked to end, and ends
		cfg.Command.Linger = lingerMost
	}
	if len(cfg.Servers) > 0 && !o.timed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openWait)
		defer cancel()
	}
	if len(cfg.Servers) == 0 && o.dir == ".opencode" && !place.LogExists(o.dir) {
		if dir := place.PassedBy(); dir != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "dstream: the log in %s is not this directory's: git takes the .git beside it for no repository; --dir %s names it\n", dir, dir)
		}
	}
	if len(cfg.Servers) == 0 && cmd.Name() != "status" { // which has a line for it
		if words, _ := place.Unlinked(o.dir); words != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s\n", console.Plain(words))
		}
	}
	d, err := openUntil(ctx, cfg)
	return d, openWords(err)
}

// endsWithin is how long a command that was asked to end during a start waits for the start
// to end in an orderly way.
const endsWithin = 3 * time.Second

// openUntil opens a log, or ends soon after ctx was canceled, whatever the start waits for: a
// disk, say, that does not answer. The process ends then, as if it had been killed.
func openUntil(ctx context.Context, cfg durablestream.Config) (*durablestream.DurableStream, error) {
	type opened struct {
		d   *durablestream.DurableStream
		err error
	}
	done := make(chan opened, 1)
	go func() {
		d, err := durablestream.Open(ctx, cfg)
		done <- opened{d, err}
	}()
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		if grace.Canceled(ctx) {
			time.AfterFunc(endsWithin, func() { close(over) })
		}
	})
	defer stop()
	select {
	case o := <-done:
		return o.d, o.err
	case <-over:
		return nil, fmt.Errorf("the start was canceled, and had not ended %s later: %w", endsWithin, ctx.Err())
	}
}

// openWords says only what a person needs who named the wrong directory.
func openWords(err error) error {
	var none *durablestream.NoLogError
	var typo *paths.ParentError
	switch {
	case errors.As(err, &none):
		return none
	case errors.As(err, &typo):
		return usage(typo)
	}
	return err
}

// closing closes d when a command ends, and reports what went wrong only then.
func closing(d *durablestream.DurableStream, err *error) {
	if cerr := d.Close(); *err == nil {
		*err = cerr
	}
}

// toRead opens the log for a command that only reads. Neither a mirror that keeps this
// process from hosting nor a disk that cannot be written must keep a person from reading
// what waits.
func (o *options) toRead(cmd *cobra.Command, change ...func(*durablestream.Config)) (*durablestream.DurableStream, error) {
	d, err := o.open(cmd, append(change, readCopy)...)
	var ahead *mirror.AheadError
	if mirror.IsProblem(err) && !errors.As(err, &ahead) { // a log that lost its end brings too little
		fmt.Fprintf(cmd.ErrOrStderr(), "dstream: reading without the mirror: %s\n", console.Plain(err.Error()))
		d, err = o.open(cmd, readCopy, onlyLook)
	}
	if err == nil && d.Admin().Copied() != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s\n", console.Plain(status.TemporaryWords(d.Admin().Copied())))
	}
	return d, err
}

// onlyLook is for commands that must not start the mirror or decide anything.
func onlyLook(cfg *durablestream.Config) {
	cfg.Command.NoMirror, cfg.Command.NoSweeper, cfg.Command.NoTakeOver = true, true, true
}

// readCopy is for commands that only read: they go on where the log cannot be written.
func readCopy(cfg *durablestream.Config) { cfg.Command.ReadCopy = true }

// readLog opens the log for a command that only reads.
func readLog(cmd *cobra.Command, o *options, f func(context.Context, *durablestream.DurableStream) error) (err error) {
	d, err := o.toRead(cmd)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	return decided(f(cmd.Context(), d))
}

// withLog opens the log for a command that takes a moment.
func withLog(cmd *cobra.Command, o *options, f func(context.Context, *durablestream.DurableStream) error, change ...func(*durablestream.Config)) (err error) {
	d, err := o.open(cmd, change...)
	if err != nil {
		return err
	}
	defer closing(d, &err)
	return decided(f(cmd.Context(), d))
}

// runs is where the runs of agents on this log say that they are alive.
func (o *options) runs() string { return filepath.Join(o.dir, "durable_stream") }
