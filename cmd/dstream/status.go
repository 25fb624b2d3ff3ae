package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/mirror"
	"durablestream/projection"
)

// statusAnswer is what `status --json` prints.
type statusAnswer struct {
	Dir      string                    `json:"dir,omitempty"`
	Servers  []string                  `json:"servers,omitempty"`
	Running  bool                      `json:"running"` // a host was there before this command
	Host     *durablestream.HostStatus `json:"host,omitempty"`
	Position event.Sequence            `json:"position"`
	First    event.Sequence            `json:"first"`
	Messages uint64                    `json:"messages"`
	Bytes    uint64                    `json:"bytes"`
	Mirror   string                    `json:"mirror,omitempty"`
	Lag      uint64                    `json:"mirror_lag"` // Sequences that the mirror has not dealt with
	Alarms   []string                  `json:"alarms"`
	SetAside []projection.Aside        `json:"set_aside,omitempty"` // what no projection can read
}

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell who hosts the log, where it stands, and what is wrong with it",
		Long: `Tells who hosts the log, its position, the mirror's lag, the disk, and alarms.
Exit status 1 when there is an alarm.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if len(o.servers) == 0 && !logExists(o.dir) {
				return fmt.Errorf("there is no log in %s: 'dstream serve' starts one", o.dir)
			}
			// A look must not start the mirror where nobody hosts.
			d, err := o.open(cmd, func(cfg *durablestream.Config) { cfg.NoMirror, cfg.NoSweeper = true, true })
			if err != nil {
				return err
			}
			defer closing(d, &err)
			a, err := askStatus(cmd.Context(), o, d)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(cmd.OutOrStdout(), a)
			} else {
				err = a.print(cmd.OutOrStdout())
			}
			if err == nil && len(a.Alarms) > 0 {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}

func askStatus(ctx context.Context, o *options, d *durablestream.DurableStream) (statusAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	a := statusAnswer{Running: !d.Hosting(), Alarms: []string{}, Servers: o.servers}
	state, err := d.State(ctx)
	if err != nil {
		return a, err
	}
	a.Position, a.First, a.Messages, a.Bytes = state.Last, state.First, state.Messages, state.Bytes
	if len(o.servers) == 0 {
		a.Dir, a.Mirror = d.Dir(), durablestream.MirrorPath(d.Dir())
		host, err := d.HostStatus(ctx)
		if err != nil {
			return a, err
		}
		if a.Running {
			a.Host = &host
			a.Lag = uint64(a.Position - min(host.MirrorSeq, a.Position))
		}
		a.Alarms = append(a.Alarms, hostAlarms(host)...)
		if !a.Running {
			if err := mirror.Check(ctx, mirror.Config{Client: d.Client, Dir: d.Dir()}); err != nil {
				a.Alarms = append(a.Alarms, "no host can start: "+err.Error())
			}
		}
	}
	resume, err := d.Resume(ctx)
	if err != nil {
		return a, err
	}
	a.SetAside = resume.SetAside
	a.Alarms = append(a.Alarms, logAlarms(state)...)
	return a, nil
}

func hostAlarms(h durablestream.HostStatus) []string {
	var alarms []string
	if h.MirrorError != "" {
		alarms = append(alarms, "the mirror has stopped: "+h.MirrorError)
	}
	if h.SweepError != "" {
		alarms = append(alarms, "the sweeper has stopped: "+h.SweepError)
	}
	if h.DiskFull {
		alarms = append(alarms, fmt.Sprintf("the disk has %s free, under the floor of %s: appends are refused until there is space", size(h.DiskFree), size(h.DiskFloor)))
	}
	return alarms
}

func logAlarms(s client.State) []string {
	if s.Missing > 0 {
		return []string{fmt.Sprintf("%s missing between %d and %d: the store is damaged; 'dstream mirror verify' says what the mirror still has", count(s.Missing, "position"), s.First, s.Last)}
	}
	return nil
}

func (a statusAnswer) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(a.Servers) > 0 {
		fmt.Fprintf(w, "servers\t%v\n", a.Servers)
	} else {
		fmt.Fprintf(w, "log of\t%s\n", a.Dir)
	}
	switch {
	case a.Host != nil:
		since := time.UnixMilli(a.Host.Since)
		fmt.Fprintf(w, "host\tpid %d, version %s, since %s (%s)\n", a.Host.PID, a.Host.Version, since.Format("2006-01-02 15:04:05"), time.Since(since).Round(time.Second))
		fmt.Fprintf(w, "endpoint\t%s\n", a.Host.Endpoint)
	case len(a.Servers) == 0:
		fmt.Fprintf(w, "host\tnone is running; 'dstream serve' starts one\n")
	}
	fmt.Fprintf(w, "position\t%d (%s, %s)\n", a.Position, count(a.Messages, "message"), size(int64(a.Bytes)))
	if a.Host != nil {
		lag := "up to date"
		if a.Lag > 0 {
			lag = count(a.Lag, "position") + " behind"
		}
		fmt.Fprintf(w, "mirror\t%s, %s, %s\n", a.Mirror, count(a.Host.MirrorLines, "line"), lag)
		fmt.Fprintf(w, "disk\t%s free (appends are refused under %s)\n", size(a.Host.DiskFree), size(a.Host.DiskFloor))
		if a.Host.SetAside > 0 {
			fmt.Fprintf(w, "set aside\t%s that are no events\n", count(a.Host.SetAside, "message"))
		}
	}
	for _, x := range a.SetAside {
		fmt.Fprintf(w, "set aside\t%d: %s\n", x.Seq, oneLine(x.Reason, 200))
	}
	if len(a.Alarms) == 0 {
		fmt.Fprintf(w, "alarms\tnone\n")
	}
	for _, alarm := range a.Alarms {
		fmt.Fprintf(w, "ALARM\t%s\n", oneLine(alarm, 1000))
	}
	return w.Flush()
}

// logExists reports whether a directory has a store or a mirror.
func logExists(dir string) bool {
	for _, name := range []string{durablestream.HostDir + "/" + broker.StoreDir, durablestream.MirrorFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// size gives bytes as a person reads them.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func versionCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, of its format and of its engine",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]any{
				"version": durablestream.Version, "format": wire.Format, "go": runtime.Version(),
				"nats-server": moduleVersion("github.com/nats-io/nats-server/v2"),
				"nats.go":     moduleVersion("github.com/nats-io/nats.go"),
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "dstream %s (log format %d, nats-server %s, nats.go %s, %s)\n",
				v["version"], v["format"], v["nats-server"], v["nats.go"], v["go"])
			return err
		},
	}
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
