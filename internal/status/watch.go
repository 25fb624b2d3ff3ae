package status

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/monitor"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// Watched is a process under the monitor's eyes, from before it has a log.
type Watched struct {
	server  *monitor.Server // nil without --monitor
	log     atomic.Pointer[durablestream.DurableStream]
	waiting atomic.Pointer[string] // what it said last that it waits for
	serve   durablestream.Serve
	engine  string
	// replicas are the names of the nodes that had a copy of the Log at the last look.
	replicas atomic.Pointer[[]string]
	// alone is the mirror of a process that does nothing else; nil in one that serves.
	alone *atomic.Pointer[mirror.Progress]
}

// WatchConfig says where the monitor listens, and what is watched.
type WatchConfig struct {
	Listen string   // HOST:PORT; "": there is no monitor
	Names  []string // by which others call the monitor
	Engine string   // the version of the engine
	Serve  durablestream.Serve
	// Mirror watches a process that does nothing but write a mirror.
	Mirror bool
	Logger *slog.Logger
}

// Watch starts the monitor. A *monitor.ListenError is one of Listen.
func Watch(cfg WatchConfig) (*Watched, error) {
	w := &Watched{serve: cfg.Serve, engine: cfg.Engine}
	if cfg.Mirror {
		w.alone = &atomic.Pointer[mirror.Progress]{}
	}
	if cfg.Listen == "" {
		return w, nil
	}
	keysAndTLS := w.serve.KeyFile != "" && w.serve.TLS.Cert != ""
	var err error
	w.server, err = monitor.Start(monitor.Config{
		Listen: cfg.Listen,
		Names:  append(slices.Clone(cfg.Names), w.serve.Name),
		Open:   w.serve.Insecure || keysAndTLS,
		Cert:   w.serve.TLS.Cert,
		Key:    w.serve.TLS.Key,
		Look:   w.Look,
		Logger: cfg.Logger,
	})
	return w, err
}

// Hear passes on what the process waits for, and keeps it.
func (w *Watched) Hear(say func(string)) func(string) {
	return func(words string) {
		w.waiting.Store(&words)
		say(words)
	}
}

// Closed says that there is no log any more, and why.
func (w *Watched) Closed(why string) {
	w.waiting.Store(&why)
	w.log.Store(nil)
}

// Opened gives the log to look at.
func (w *Watched) Opened(d *durablestream.DurableStream) { w.log.Store(d) }

// Stop ends the monitor. The log is closed before it, so that a process that is
// about to end does not look dead.
func (w *Watched) Stop() {
	if w.server != nil {
		_ = w.server.Stop() // nobody is left to tell
	}
}

// Mirrored says how far a process has come that does nothing but write a mirror.
func (w *Watched) Mirrored(p mirror.Progress) { w.alone.Store(&p) }

// Look is the process as it is now.
func (w *Watched) Look(ctx context.Context) monitor.Snapshot {
	s := monitor.Snapshot{
		State: monitor.Starting, Version: durablestream.Version, Format: wire.Format,
		Engine: w.engine, Node: w.serve.Name,
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
		s.Reasons = append(s.Reasons, monitor.Reason{Name: AlarmWaiting, Message: why})
		return s
	}
	var alarms []Alarm
	s.State = monitor.Standby
	if d.Hosting() {
		h, err := d.Admin().HostStatus(ctx)
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
	damaged := slices.ContainsFunc(alarms, func(a Alarm) bool { return a.Name == AlarmDamaged })
	for _, a := range alarms {
		if a.Name == AlarmDamaged || damaged && (a.Name == AlarmMirror || a.Name == AlarmSweeper) {
			continue // a restart mends nothing, and may make it worse
		}
		s.Reasons = append(s.Reasons, monitor.Reason{Name: a.Name, Message: a.Message})
	}
	return s
}

// aloneMirror is what `mirror run` does; it stands by while another process has the
// files.
func aloneMirror(p *mirror.Progress) (monitor.State, *monitor.Mirror, []Alarm) {
	if p == nil {
		return monitor.Standby, nil, nil
	}
	m := &monitor.Mirror{Running: p.Err == nil, Position: p.Seq, Lines: p.Lines, SetAside: p.SetAside}
	if p.Err != nil {
		return monitor.Mirroring, m, []Alarm{{Name: AlarmMirror, Message: "the mirror cannot be written: " + p.Err.Error()}}
	}
	return monitor.Mirroring, m, nil
}

// snapshotOf is a host's own status in the monitor's words.
func snapshotOf(h broker.HostStatus) (*monitor.Host, *monitor.Mirror, *monitor.Sweeper) {
	host := &monitor.Host{Since: h.Since.Time, DiskFree: h.DiskFree, DiskFloor: h.DiskFloor, DiskFull: h.DiskFull, ReadOnly: h.DiskReadOnly, Torn: h.Torn != "", Inodes: h.DiskInodes, InodeFloor: h.DiskInodesFloor, Damaged: damagedCount(h)}
	if !h.Checked.IsZero() {
		host.Checked = h.Checked.Time
	}
	var written *monitor.Mirror
	if !h.MirrorOff {
		written = &monitor.Mirror{Running: h.MirrorError == "", Position: h.MirrorSeq, Lines: h.MirrorLines, SetAside: h.SetAside}
	}
	var sweeper *monitor.Sweeper
	if !h.SweeperOff {
		sweeper = &monitor.Sweeper{Running: h.SweeperError == ""}
	}
	return host, written, sweeper
}

// Words is the line of serve that says where the monitor is.
func (w *Watched) Words() string {
	if w.server == nil {
		return ""
	}
	return fmt.Sprintf("  monitor %s/healthz and /metrics\n", w.server.URL())
}
