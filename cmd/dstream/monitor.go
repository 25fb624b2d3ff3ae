package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"durablestream"
	"durablestream/internal/monitor"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// watched is a process under the monitor's eyes, from before it has a log.
type watched struct {
	server  *monitor.Server // nil without --monitor
	log     atomic.Pointer[durablestream.DurableStream]
	waiting atomic.Pointer[string] // what it said last that it waits for
	serve   durablestream.Serve
	// replicas are the names of the nodes that had a copy of the Log at the last look.
	replicas atomic.Pointer[[]string]
	// alone is the mirror of a process that does nothing else; nil in one that serves.
	alone *atomic.Pointer[mirror.Progress]
}

// watchMirror is watch for `mirror run`.
func watchMirror(flags monitorFlags, logger *slog.Logger) (*watched, error) {
	w := &watched{alone: &atomic.Pointer[mirror.Progress]{}}
	return w, w.listen(flags, logger)
}

// watch starts the monitor; with an empty address there is none.
func watch(flags monitorFlags, serve durablestream.Serve, logger *slog.Logger) (*watched, error) {
	w := &watched{serve: serve}
	return w, w.listen(flags, logger)
}

func (w *watched) listen(flags monitorFlags, logger *slog.Logger) (err error) {
	if flags.listen == "" {
		return nil
	}
	keysAndTLS := w.serve.KeyFile != "" && w.serve.TLS.Cert != ""
	w.server, err = monitor.Start(monitor.Config{
		Listen: flags.listen,
		Names:  append(slices.Clone(flags.names), w.serve.Name),
		Open:   w.serve.Insecure || keysAndTLS,
		Cert:   w.serve.TLS.Cert,
		Key:    w.serve.TLS.Key,
		Look:   w.look,
		Logger: logger,
	})
	var wrong *monitor.ListenError
	if errors.As(err, &wrong) {
		return usage(err)
	}
	return err
}

// hear passes on what the process waits for, and keeps it.
func (w *watched) hear(say func(string)) func(string) {
	return func(words string) {
		w.waiting.Store(&words)
		say(words)
	}
}

// closed says that there is no log any more, and why.
func (w *watched) closed(why string) {
	w.waiting.Store(&why)
	w.log.Store(nil)
}

// opened gives the log to look at.
func (w *watched) opened(d *durablestream.DurableStream) { w.log.Store(d) }

// stop ends the monitor. The log is closed before it, so that a process that is
// about to end does not look dead.
func (w *watched) stop() {
	if w.server != nil {
		_ = w.server.Stop() // nobody is left to tell
	}
}

// look is the process as it is now.
func (w *watched) look(ctx context.Context) monitor.Snapshot {
	s := monitor.Snapshot{
		State: monitor.Starting, Version: durablestream.Version, Format: wire.Format,
		Engine: moduleVersion("github.com/nats-io/nats-server/v2"), Node: w.serve.Name,
	}
	if w.serve.Cluster != nil {
		s.Cluster = w.serve.Cluster.Name
	}
	d := w.log.Load()
	if d == nil {
		why := "the log is not open yet"
		if said := w.waiting.Load(); said != nil {
			why = *said
		}
		s.Reasons = append(s.Reasons, monitor.Reason{Name: alarmWaiting, Message: why})
		return s
	}
	var alarms []alarm
	s.State = monitor.Standby
	if d.Hosting() {
		h, err := d.HostStatus(ctx)
		if err == nil { // else it has just stopped hosting
			s.State = monitor.Hosting
			s.Host, s.Mirror, s.Sweeper = snapshotOf(h)
			alarms = hostAlarms(h)
		}
	}
	if w.alone != nil {
		s.State, s.Mirror, alarms = aloneMirror(w.alone.Load())
	}
	alarms = append(alarms, w.lookAtLog(ctx, d, &s)...)
	damaged := slices.ContainsFunc(alarms, func(a alarm) bool { return a.Name == alarmDamaged })
	for _, a := range alarms {
		if a.Name == alarmDamaged || damaged && (a.Name == alarmMirror || a.Name == alarmSweeper) {
			continue // a restart mends nothing, and may make it worse
		}
		s.Reasons = append(s.Reasons, monitor.Reason{Name: a.Name, Message: a.Message})
	}
	return s
}

// aloneMirror is what `mirror run` does; it stands by while another process has the
// files.
func aloneMirror(p *mirror.Progress) (monitor.State, *monitor.Mirror, []alarm) {
	if p == nil {
		return monitor.Standby, nil, nil
	}
	m := &monitor.Mirror{Running: p.Err == nil, Position: p.Seq, Lines: p.Lines, SetAside: p.SetAside}
	if p.Err != nil {
		return monitor.Mirroring, m, []alarm{{Name: alarmMirror, Message: "the mirror cannot be written: " + p.Err.Error()}}
	}
	return monitor.Mirroring, m, nil
}

// snapshotOf is a host's own status in the monitor's words.
func snapshotOf(h durablestream.HostStatus) (*monitor.Host, *monitor.Mirror, *monitor.Sweeper) {
	host := &monitor.Host{Since: time.UnixMilli(h.Since), DiskFree: h.DiskFree, DiskFloor: h.DiskFloor, DiskFull: h.DiskFull, ReadOnly: h.DiskReadOnly, Torn: h.Torn != "", Inodes: h.DiskInodes, InodeFloor: h.DiskInodeFloor, Damaged: damagedCount(h)}
	if h.Checked != 0 {
		host.Checked = time.UnixMilli(h.Checked)
	}
	var written *monitor.Mirror
	if !h.MirrorOff {
		written = &monitor.Mirror{Running: h.MirrorError == "", Position: h.MirrorSeq, Lines: h.MirrorLines, SetAside: h.SetAside}
	}
	var sweeper *monitor.Sweeper
	if !h.SweeperOff {
		sweeper = &monitor.Sweeper{Running: h.SweepError == ""}
	}
	return host, written, sweeper
}

// words is the line of serve that says where the monitor is.
func (w *watched) words() string {
	if w.server == nil {
		return ""
	}
	return fmt.Sprintf("  monitor %s/healthz and /metrics\n", w.server.URL())
}

// monitorFlags say where the monitor listens, and how others call it.
type monitorFlags struct {
	listen string
	names  []string
}

func (m *monitorFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&m.listen, "monitor", "", "HOST:PORT to answer /healthz and /metrics at, such as "+defaultMonitor+" (default: nowhere)")
	fs.StringSliceVar(&m.names, "monitor-name", nil, "a name by which others call the monitor, beside localhost, the HOST of --monitor, this machine's name, --name and those in --tls-cert (repeatable)")
}
