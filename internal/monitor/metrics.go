package monitor

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// scrapeWait bounds how long a scrape or a health check waits for the Log. It is
// well under the ten seconds that Prometheus waits by default.
const scrapeWait = 3 * time.Second

// desc describes a metric of ours, with its labels.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("durable_stream_"+name, help, labels, nil)
}

// The metrics, in the order of docs/operations.md.
var (
	buildInfo   = desc("build_info", "Always 1; the labels say what runs.", "version", "format", "nats_server", "go_version")
	healthy     = desc("healthy", "1 where /healthz answers 200.")
	hosting     = desc("hosting", "1 where the broker runs in this process.")
	logReadable = desc("log_readable", "1 where this process could read the Log just now, and the Log has a leader with a majority.")

	position   = desc("position", "Last Sequence of the Log.")
	messages   = desc("messages", "Messages in the Log: events and guards.")
	logBytes   = desc("log_bytes", "Size of the Log on disk.")
	consumers  = desc("consumers", "Consumers of the Log on the server: one for each reader.")
	missing    = desc("missing_positions", "Positions of the Log that hold nothing: damage.")
	replicaOn  = desc("replica_online", "1 where the leader hears the replica; without a leader, where the node answers.", "replica")
	replicaNow = desc("replica_current", "1 where the replica has what the leader has.", "replica")
	replicaLag = desc("replica_lag_positions", "Positions by which the replica is behind.", "replica")
	leader     = desc("replica_leader", "1 for the replica that leads.", "replica")

	hostStart = desc("host_start_time_seconds", "Unix time at which this process began to host.")
	diskFree  = desc("disk_free_bytes", "Free space where the Log is stored.")
	diskFloor = desc("disk_floor_bytes", "Free space under which appends are refused.")
	refusing  = desc("disk_refusing_appends", "1 while appends are refused because the disk is full or read-only, or the log ends with a part of a batch.")
	readOnly  = desc("disk_read_only", "1 while the disk of the Log cannot be written.")
	inodes    = desc("disk_free_inodes", "Free inodes where the Log is stored.")
	inodesMin = desc("disk_floor_inodes", "Free inodes under which appends are refused.")
	damaged   = desc("damaged_positions", "Positions of this host's store that cannot be read.")
	checked   = desc("store_checked_time_seconds", "Unix time since when this host has read all of its store for damage.")

	mirrorOn    = desc("mirror_running", "1 while this process writes the mirror; 0 where it has stopped.")
	mirrorPos   = desc("mirror_position", "Sequence up to which the mirror has dealt with the Log.")
	mirrorLag   = desc("mirror_lag_positions", "Positions of the Log that the mirror has not dealt with.")
	mirrorLines = desc("mirror_lines_total", "Lines that the mirror has written since this process started.")
	setAside    = desc("set_aside_messages_total", "Messages that are no events, met by the mirror since this process started.")
	sweeperOn   = desc("sweeper_running", "1 while this process sweeps; 0 where the sweeper has stopped.")

	all = []*prometheus.Desc{
		buildInfo, healthy, hosting, logReadable, position, messages, logBytes, consumers, missing,
		replicaOn, replicaNow, replicaLag, leader, hostStart, diskFree, diskFloor, refusing, readOnly, inodes, inodesMin, damaged, checked,
		mirrorOn, mirrorPos, mirrorLag, mirrorLines, setAside, sweeperOn,
	}
)

// collector asks for a Snapshot at each scrape.
type collector struct {
	ctx  context.Context // ends with the server
	look func(context.Context) Snapshot
}

// registry has our metrics, those of the Go runtime and those of the process.
func registry(c *collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What is not known is left out: a value
// of 0 would be a claim.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(c.ctx, scrapeWait)
	defer cancel()
	s := c.look(ctx)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(buildInfo, 1, s.Version, strconv.Itoa(s.Format), s.Engine, runtime.Version())
	gauge(healthy, is(len(s.Reasons) == 0))
	gauge(hosting, is(s.Host != nil))
	gauge(logReadable, is(s.Log != nil))
	if l := s.Log; l != nil {
		gauge(position, float64(l.Position))
		gauge(messages, float64(l.Messages))
		gauge(logBytes, float64(l.Bytes))
		gauge(consumers, float64(l.Consumers))
		gauge(missing, float64(l.Missing))
	}
	for _, r := range s.Replicas {
		gauge(replicaOn, is(!r.Offline), r.Name)
		gauge(leader, is(r.Leader), r.Name)
		if !r.Unknown {
			gauge(replicaNow, is(r.Current), r.Name)
			gauge(replicaLag, float64(r.Lag), r.Name)
		}
	}
	if h := s.Host; h != nil {
		gauge(hostStart, float64(h.Since.UnixMilli())/1000)
		gauge(damaged, float64(h.Damaged))
		if !h.Checked.IsZero() {
			gauge(checked, float64(h.Checked.UnixMilli())/1000)
		}
		if h.DiskFloor >= 0 {
			gauge(diskFloor, float64(h.DiskFloor))
			gauge(refusing, is(h.DiskFull || h.ReadOnly || h.Torn))
			gauge(readOnly, is(h.ReadOnly))
			if h.InodeFloor > 0 && h.Inodes >= 0 {
				gauge(inodes, float64(h.Inodes))
				gauge(inodesMin, float64(h.InodeFloor))
			}
		}
		if h.DiskFree >= 0 && h.DiskFloor >= 0 {
			gauge(diskFree, float64(h.DiskFree))
		}
	}
	if m := s.Mirror; m != nil {
		gauge(mirrorOn, is(m.Running))
		gauge(mirrorPos, float64(m.Position))
		count(mirrorLines, m.Lines)
		count(setAside, m.SetAside)
		if s.Log != nil {
			gauge(mirrorLag, float64(s.Log.Position-min(m.Position, s.Log.Position)))
		}
	}
	if s.Sweeper != nil {
		gauge(sweeperOn, is(s.Sweeper.Running))
	}
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
