package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/console"
	"durablestream/internal/grace"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/when"
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
		NoCreate:               !slices.Contains(creators, cmd.Name()),
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
		cfg.Wait = openWait
	}
	if cmd.Name() != "serve" { // its host is asked to end, and ends
		cfg.Linger = lingerMost
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

// filterFlags are the flags that choose events.
type filterFlags struct {
	event.Filter
	since, until string
	after        uint64
}

func (f *filterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.StreamID, "stream", "", "events of this stream")
	fs.StringArrayVar(&f.Types, "type", nil, `events of this type; * and > as in "checkpoint.*" and "ledger.>" (repeatable)`)
	fs.StringVar(&f.Actor, "actor", "", "events of this actor")
	fs.StringVar(&f.CorrelationID, "correlation", "", "events with this correlation_id")
	fs.StringVar(&f.since, "since", "", "events from this time on, such as 2h ago, 7d, 13:50, yesterday, 2026-11-29, '2026-11-29 13:50', or Unix ms; local time unless it names a zone")
	fs.StringVar(&f.until, "until", "", "events up to this time, inclusive; a day includes all of it")
}

// filter checks the flags and gives the Filter.
func (f *filterFlags) filter(cmd *cobra.Command) (event.Filter, error) {
	var err error
	for _, flag := range []struct{ name, v string }{{"stream", f.StreamID}, {"actor", f.Actor}, {"correlation", f.CorrelationID}} {
		if cmd.Flags().Changed(flag.name) && flag.v == "" {
			return f.Filter, usage(&event.InvalidError{Field: flag.name, Value: "", Rule: "must not be empty; leave the flag out for all"})
		}
	}
	if f.Since, err = parseTime("since", f.since, time.Now(), when.First); err != nil {
		return f.Filter, usage(err)
	}
	if f.Until, err = parseTime("until", f.until, time.Now(), when.Last); err != nil {
		return f.Filter, usage(err)
	}
	if f.Until != 0 && f.Since > f.Until {
		return f.Filter, usage(&event.InvalidError{Field: "since", Value: f.since, Rule: fmt.Sprintf("must not be after until (%s)", f.until)})
	}
	f.After = event.Sequence(f.after)
	return f.Filter, usage(f.Validate())
}

// parseTime reads a time as Unix ms; "" is no bound.
func parseTime(field, s string, now time.Time, edge when.Edge) (int64, error) {
	if s == "" {
		return 0, nil
	}
	t, err := when.Parse(s, now, edge)
	if err != nil {
		return 0, &event.InvalidError{Field: field, Value: s, Rule: err.Error()}
	}
	return t.UnixMilli(), nil
}

// flagError says what a flag's value must be, where the library tells which of its
// functions could not read it.
func flagError(err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	rule := map[string]string{
		"bool": "true or false", "duration": "a duration such as 90s or 1h30m",
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number, 0 or more",
	}[wrong.GetFlag().Value.Type()]
	if rule == "" {
		return err
	}
	return fmt.Errorf("--%s %q: must be %s", wrong.GetFlag().Name, wrong.GetValue(), rule)
}

// printEvent writes an event as one line of JSON.
func printEvent(w io.Writer, r event.Recorded) error {
	_, err := w.Write(append(r.AppendJSON(nil), '\n'))
	return err
}

// printJSON writes an answer as indented JSON, without escaping HTML.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// self is how a person calls this program from the current directory.
func self() string {
	exe, err := os.Executable()
	if err != nil {
		return "dstream"
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == filepath.Dir(exe) {
			return filepath.Base(exe)
		}
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, exe); err == nil && !strings.HasPrefix(rel, "..") {
			return "./" + rel
		}
	}
	return exe
}
