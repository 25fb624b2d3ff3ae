package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/console"
	host "durablestream/internal/hosting"
	"durablestream/internal/place"
	"durablestream/internal/status"
)

func serveCommand(o *options) *cobra.Command {
	var cfg durablestream.Config
	var monitor monitorFlags
	var node clusterFlags
	var checkHeaders bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Host the log of this project until interrupted, or stand by for its host",
		Long: `Hosts the log: an embedded broker on the loopback, and the mirror, which writes
the canonical JSONL file. Other dstream commands and agents join it by the address
file. Where another process hosts, it stands by, and takes over when that one has
gone. Interrupt it (Ctrl-C) to stop: the mirror is written up to the end first.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.apply(cmd, &cfg.Serve); err != nil {
				return err
			}
			cfg.Serve.AnyHeaders = !checkHeaders
			return serve(cmd, o, cfg, monitor)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "loopback address of the broker; port 0 is any free one")
	fs.Int64Var(&cfg.MirrorMaxBytes, "mirror-max-bytes", 64<<20, "size at which the JSONL file is rotated")
	fs.Int64Var(&cfg.DiskFloor, "disk-floor", 64<<20, "free bytes under which appends are refused; negative: no watch")
	fs.BoolVar(&cfg.Command.NoMirror, "no-mirror", false, "leave the JSONL file to 'dstream mirror run'")
	fs.BoolVar(&cfg.Command.NoSweeper, "no-sweeper", false, "leave what time decides to another process")
	monitor.register(fs)
	node.register(fs)
	fs.StringVar(&cfg.Serve.KeyFile, "keys", "", "list of the keys that may connect, made with dstream keys (default: whoever can read --dir may do everything)")
	fs.BoolVar(&checkHeaders, "check-headers", true, "on a node of a cluster with --keys: refuse what agents and operators publish with headers that clients do not send, of which one can stop the log")
	fs.BoolVar(&cfg.Serve.Insecure, "insecure", false, "listen on an address that is no loopback without keys and TLS: whoever reaches it may do everything")
	return cmd
}

func serve(cmd *cobra.Command, o *options, flags durablestream.Config, monitor monitorFlags) (err error) {
	if cmd.Flags().Changed("server") {
		return usage(errors.New("serve hosts the log of --dir: it takes no --server"))
	}
	if o.tls.Cert != "" || o.tls.Key != "" { // without them, --tls-ca is for who joins
		flags.Serve.TLS = broker.TLSConfig{Cert: o.tls.Cert, Key: o.tls.Key, CA: o.tls.CA}
	}
	watched, err := monitor.watch(status.WatchConfig{Serve: flags.Serve, Logger: o.config(cmd).Logger})
	if err != nil {
		return err
	}
	defer watched.Stop()
	flags.Serve.Waiting = watched.Hear(flags.Serve.Waiting)
	go host.BoundMemory(cmd.Context())
	d, err := o.open(cmd, func(cfg *durablestream.Config) {
		cfg.Listen, cfg.MirrorMaxBytes = flags.Listen, flags.MirrorMaxBytes
		cfg.DiskFloor, cfg.Serve = flags.DiskFloor, flags.Serve
		cfg.Servers = nil // perhaps from the environment
		cfg.Command.CheckMirror = true
		cfg.Command.NoMirror, cfg.Command.NoSweeper = flags.Command.NoMirror, flags.Command.NoSweeper
	})
	if err != nil && cmd.Context().Err() != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "stopped")
		return nil
	}
	var wrong *broker.ConfigError
	if errors.As(err, &wrong) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	watched.Opened(d)
	defer reloadKeys(cmd.Context(), d, flags.Serve.KeyFile, cmd.ErrOrStderr())()
	words := cmd.ErrOrStderr()
	hosting := d.Hosting()
	defer func() {
		hosting = hosting || d.Hosting()
		closing(d, &err)
		if err != nil {
			return
		}
		switch {
		case !hosting:
			fmt.Fprintln(words, "stopped: this process was standing by")
		case flags.Command.NoMirror:
			fmt.Fprintln(words, "stopped")
		default:
			fmt.Fprintln(words, "stopped: the mirror has everything that was acknowledged")
		}
	}()
	if !hosting {
		if err := standBy(cmd.Context(), words, d, watched.Words()); err != nil || !d.Hosting() {
			return err
		}
	}
	s, err := d.Admin().HostStatus(cmd.Context())
	if err != nil {
		return err
	}
	mirror := durablestream.MirrorPath(d.Dir())
	if flags.Command.NoMirror {
		mirror = "not written here (--no-mirror)"
	}
	fmt.Fprintf(words, `Durable Stream %s hosts the log of %s
  log     %s (%s, pid %d)
  mirror  %s
%s`, durablestream.Version, d.Dir(), d.Dir()+"/"+durablestream.HostDir, s.Endpoint, s.PID, mirror, watched.Words())
	if flags.Serve.Cluster == nil && flags.Serve.KeyFile == "" { // else others need more than this
		fmt.Fprintf(words, `
Append from another terminal:
  %s append task.created --stream ses_1 --actor agent/planner --payload '{"title":"Refactor Auth"}'
See events live:
  %s tail
`, console.Self()+dirFlag(o), console.Self()+dirFlag(o))
	}
	fmt.Fprint(words, "Ctrl-C stops it.\n\n")
	if console.IsTerminal(words) {
		liveLine(cmd.Context(), words, d)
	}
	select {
	case <-cmd.Context().Done():
	case <-d.Evicted():
		return &exitError{code: exitFailed} // the broker has said why
	}
	return nil
}

// reloadKeys reads the key list again at each SIGHUP, until the function that it
// returns is called. A list from which the last key was taken lets nobody in.
func reloadKeys(ctx context.Context, d *durablestream.DurableStream, list string, words io.Writer) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
			}
			said := "the key list was read again"
			reload := d.Admin().ReloadKeys
			if keys, err := place.ReadKeys(d.Dir(), list); err == nil && len(keys) == 0 {
				reload = d.Admin().RevokeKeys
				said = fmt.Sprintf("the key list %s holds no key any more: everybody is cut off, and nobody is let in until it has one (dstream keys make) and is read again (SIGHUP)", list)
			}
			if err := reload(); err != nil {
				said = "the keys stay as they are: " + err.Error()
			}
			fmt.Fprintln(words, console.Plain(said))
		}
	}()
	return func() { signal.Stop(hup); cancel(); <-done }
}

// standBy waits until this process hosts, or ctx ends.
func standBy(ctx context.Context, words io.Writer, d *durablestream.DurableStream, monitor string) error {
	who := "another process"
	brief, cancel := context.WithTimeout(ctx, openWait)
	if s, err := d.Admin().HostStatus(brief); err == nil {
		who = fmt.Sprintf("process %d (%s)", s.PID, s.Endpoint)
	}
	cancel()
	fmt.Fprintf(words, "standing by: %s hosts the log of %s; this one takes over when it has gone. Ctrl-C stops it.\n%s", who, d.Dir(), monitor)
	select {
	case <-ctx.Done():
	case <-d.Evicted():
		return d.Admin().WhyEvicted()
	case <-d.Admin().Hosted():
		fmt.Fprintf(words, "%s has gone: this process hosts now\n", who)
	}
	return nil
}

// dirFlag is what others must add to reach the same log.
func dirFlag(o *options) (flags string) {
	if o.dir != ".opencode" {
		flags = " --dir " + o.dir
	}
	if o.tls.Cert != "" && o.tls.CA != "" {
		flags += " --tls-ca " + o.tls.CA
	}
	return flags
}

// liveLine rewrites one line with counts until ctx ends.
func liveLine(ctx context.Context, w io.Writer, d *durablestream.DurableStream) {
	const every = 500 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := uint64(0)
	for first := true; ; first = false {
		if line, lines, err := status.Live(ctx, d); err == nil {
			rate := float64(lines-last) / every.Seconds()
			if first {
				rate = 0
			}
			last = lines
			console.Redraw(w, console.OneLine(fmt.Sprintf("%s · %.0f/s", line, rate), console.Width(w)))
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(w)
			return
		case <-d.Evicted():
			return
		case <-tick.C:
		}
	}
}

// clusterFlags are the flags of serve for a node of a cluster.
type clusterFlags struct {
	name    string
	cluster broker.ClusterConfig
}

func (f *clusterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "name", "", "this node's name, unique in its cluster and kept")
	fs.StringVar(&f.cluster.Name, "cluster-name", "", "be a node of this cluster (default: a host of its own)")
	fs.StringVar(&f.cluster.Listen, "cluster-listen", "", "address for the other nodes, host:port")
	fs.StringVar(&f.cluster.Advertise, "cluster-advertise", "", "address by which the other nodes reach --cluster-listen, where it is another one, such as behind a proxy")
	fs.StringSliceVar(&f.cluster.Routes, "routes", nil, "the --cluster-listen of all nodes, as nats://host:port, this one's too")
	fs.IntVar(&f.cluster.Replicas, "replicas", 3, "on how many nodes each event is: 1, 3 or 5")
}

// apply takes the flags over.
func (f *clusterFlags) apply(cmd *cobra.Command, s *durablestream.Serve) error {
	s.Name = f.name
	s.Waiting = func(words string) { fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s\n", words) }
	if f.cluster.Name == "" {
		for _, flag := range []string{"cluster-listen", "cluster-advertise", "routes", "replicas"} {
			if cmd.Flags().Changed(flag) {
				return usage(fmt.Errorf("--%s is for a node of a cluster: give --cluster-name too", flag))
			}
		}
		return nil
	}
	for _, flag := range []string{"name", "cluster-listen", "routes"} {
		if !cmd.Flags().Changed(flag) {
			return usage(fmt.Errorf("a node of the cluster %s needs --%s", f.cluster.Name, flag))
		}
	}
	cluster := f.cluster
	s.Cluster = &cluster
	return nil
}
