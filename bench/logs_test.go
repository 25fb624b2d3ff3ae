package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/longtest"
	"durablestream/internal/measure"
	"durablestream/internal/wire"
)

// sizes are the logs that everything here is measured in.
func sizes() []int {
	return longtest.Pick([]int{10_000, 100_000}, []int{10_000, 100_000, 1_000_000})
}

// filled is a project's directory with a log of n events and its mirror, made once.
func filled(b testing.TB, n int) string {
	b.Helper()
	return shared(b, fmt.Sprint("log", n), func(dir string) {
		h, err := measure.Start(b.Context(), filepath.Join(dir, durablestream.HostDir))
		require.NoError(b, err)
		require.NoError(b, measure.Fill(b.Context(), h.Bare, n))
		position, err := h.Client.Position(b.Context())
		require.NoError(b, err)
		require.NoError(b, mirrorTo(b.Context(), h, dir, position))
		indexed(b, h)
		require.NoError(b, h.Stop(context.Background()))
	})
}

// indexed waits until the host has an index of each block that is full.
func indexed(b testing.TB, h *measure.Host) {
	b.Helper()
	_, last := full(b, h)
	require.Eventually(b, func() bool { return h.Broker.Indexed() >= last }, 3*time.Minute, 5*time.Millisecond, "no index up to %d", last)
}

// full is how many bytes the blocks hold that are full, and the last Sequence in them.
func full(b testing.TB, h *measure.Host) (bytes int64, last event.Sequence) {
	b.Helper()
	dirs, err := blocks.Find(filepath.Join(h.Dir, broker.StoreDir))
	require.NoError(b, err)
	require.Len(b, dirs, 1)
	files, err := blocks.List(dirs[0])
	require.NoError(b, err)
	if len(files) < 2 {
		return 0, 0
	}
	newest, err := blocks.CheckFile(files[len(files)-1])
	require.NoError(b, err)
	for _, f := range files[:len(files)-1] {
		bytes += f.Size
	}
	return bytes, newest.First - 1
}

// benchmarkIndex measures how long a host needs for an index of all that there is, beside
// whatever else it does: it takes a quarter of one core for it.
func benchmarkIndex(b *testing.B, dir string) {
	host := filepath.Join(dir, durablestream.HostDir)
	require.NoError(b, os.RemoveAll(filepath.Join(host, broker.StoreDir, broker.IndexDir)))
	h, err := measure.Start(b.Context(), host)
	require.NoError(b, err)
	b.ReportMetric(us(timed(b, func() { indexed(b, h) }))/1000, "index-ms")
	require.NoError(b, h.Stop(context.Background()))
	b.ReportMetric(0, "ns/op")
}

// Logs of each size, hosted by a `dstream serve` process: its start and memory, what
// an append takes, queries, and resume, beside the mirror's lines parsed.
func BenchmarkLog(b *testing.B) {
	for _, n := range sizes() {
		dir := filled(b, n)
		b.Run(fmt.Sprintf("%d/index", n), func(b *testing.B) { benchmarkIndex(b, dir) })
		b.Run(fmt.Sprintf("%d/sizes", n), func(b *testing.B) { benchmarkSizes(b, dir) })
		b.Run(fmt.Sprintf("%d/boot", n), func(b *testing.B) { benchmarkBoot(b, dir) })
		s := serve(b, dir)
		c, bare, conns, err := measure.Join(b.Context(), client.Target{AddressFile: broker.AddressPath(filepath.Join(dir, durablestream.HostDir))})
		require.NoError(b, err)
		b.Run(fmt.Sprintf("%d/append", n), func(b *testing.B) {
			all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(40), For: 20 * time.Millisecond, InFlight: 1},
				measure.Side{Name: "ours", Op: measure.Appender(c)}, measure.Side{Name: "bare", Op: bare.Append})
			require.NoError(b, err)
			report(b, all)
		})
		b.Run(fmt.Sprintf("%d/query", n), func(b *testing.B) { benchmarkQueries(b, c, bare, dir, n) })
		b.Run(fmt.Sprintf("%d/memory", n), func(b *testing.B) {
			b.ReportMetric(s.resident(b), "used-MB")
			b.ReportMetric(0, "ns/op")
		})
		leave(c, conns)
		s.stop(b)
	}
}

// benchmarkSizes measures what an event takes on the disk, with an index that is whole.
func benchmarkSizes(b *testing.B, dir string) {
	h, err := measure.Start(b.Context(), filepath.Join(dir, durablestream.HostDir))
	require.NoError(b, err)
	defer func() { require.NoError(b, h.Stop(context.Background())) }()
	position, err := h.Client.Position(b.Context())
	require.NoError(b, err)
	indexed(b, h)
	events := float64(position - measure.Matter) // the others are guards, and no lines of the mirror
	log, index := storeSize(b, h)
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl")) // whole: its maker has waited for it
	require.NoError(b, err)
	mirror := int64(0)
	for _, f := range files {
		size, err := measure.Size(f)
		require.NoError(b, err)
		mirror += size
	}
	b.ReportMetric(float64(log+index)/events, "log-B/event")
	b.ReportMetric(float64(index)/events, "index-B/event")
	b.ReportMetric(float64(mirror)/events, "mirror-B/event")
	b.ReportMetric(0, "ns/op")
}

// storeSize is how many bytes the Log holds on the disk, and how many its index.
func storeSize(b testing.TB, h *measure.Host) (log, index int64) {
	b.Helper()
	store := filepath.Join(h.Dir, broker.StoreDir)
	all, err := measure.Size(store)
	require.NoError(b, err)
	if made := filepath.Join(store, broker.IndexDir); exists(made) { // where a block is full
		index, err = measure.Size(made)
		require.NoError(b, err)
	}
	return all - index, index
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// benchmarkBoot measures a start of the host, and a command that must host by itself.
func benchmarkBoot(b *testing.B, dir string) {
	var boot, command measure.Measured
	var memory float64
	for range rounds(4) {
		s := serve(b, dir)
		boot.Times = append(boot.Times, s.boot)
		memory = max(memory, s.resident(b))
		s.stop(b)
		command.Times = append(command.Times, timed(b, func() { run(b, dir, "append", "task.created", "--stream", "s", "--actor", "a") }))
	}
	report(b, []measure.Measured{named("boot", boot), named("command", command)})
	b.ReportMetric(memory, "booted-MB")
}

func named(name string, m measure.Measured) measure.Measured {
	m.Name = name
	return m
}

func timed(b testing.TB, f func()) time.Duration {
	b.Helper()
	began := time.Now()
	f()
	return time.Since(began)
}

// run runs one dstream command to its end.
func run(b testing.TB, dir string, args ...string) {
	b.Helper()
	out, err := exec.Command(program(b), append([]string{"--dir", dir}, args...)...).CombinedOutput()
	require.NoError(b, err, "%s", out)
}

// query is a question that can be asked of the log and of its file.
type query struct {
	name   string
	filter event.Filter
	want   int
	match  func(measure.Line) bool
}

func queries(n int) []query {
	since := int64(measure.FirstTimestamp + n/2*measure.Spacing)
	until := since + 999*measure.Spacing
	return []query{
		{"stream", event.Filter{StreamID: measure.RareStream}, measure.StreamEvents, func(l measure.Line) bool { return l.StreamID == measure.RareStream }},
		{"type", event.Filter{Types: []string{measure.RareType}}, measure.StreamEvents, func(l measure.Line) bool { return l.Type == measure.RareType }},
		{"actor", event.Filter{Actor: measure.RareActor}, measure.StreamEvents, func(l measure.Line) bool { return l.Actor == measure.RareActor }},
		{"correlation", event.Filter{CorrelationID: measure.RareCorrelation}, measure.StreamEvents, func(l measure.Line) bool { return l.CorrelationID == measure.RareCorrelation }},
		{"time", event.Filter{Since: time.UnixMilli(since), Until: time.UnixMilli(until)}, 0, func(l measure.Line) bool { return l.Timestamp >= since && l.Timestamp <= until }},
		{"newest", event.Filter{Last: 50}, 50, func(measure.Line) bool { return true }},
	}
}

// benchmarkQueries asks each question a few times, in turn with the others.
func benchmarkQueries(b *testing.B, c *client.Client, bare *measure.Bare, dir string, n int) {
	got := map[string]*measure.Measured{}
	took := func(name string, f func()) {
		if got[name] == nil {
			got[name] = &measure.Measured{}
		}
		got[name].Add(measure.Measured{Name: name, Times: []time.Duration{timed(b, f)}, Count: 1})
	}
	all := queries(n)
	_, err := measure.ParseJSONL(dir, func(measure.Line) {}) // from the disk: a mirror that catches up leaves its files out of the page cache
	require.NoError(b, err)
	for round := range rounds(8) {
		for _, q := range all {
			took(q.name, func() {
				found := 0
				for _, err := range c.Query(b.Context(), q.filter) {
					require.NoError(b, err)
					found++
				}
				if q.want != 0 {
					require.Equal(b, q.want, found, q.name)
				} else {
					require.InDelta(b, 1000, found, 210, q.name) // those that matter have times of their own
				}
			})
		}
		stream := wire.FilterSubjects(event.Filter{StreamID: measure.RareStream})
		took("stream-bare", func() { require.NoError(b, bare.Read(b.Context(), stream, measure.StreamEvents)) })
		matter := append(wire.FilterSubjects(event.Filter{Types: []string{"checkpoint.>", "agent.>"}}), wire.AllGuards)
		took("resume-bare", func() { require.NoError(b, bare.Read(b.Context(), matter, 2*measure.Matter)) })
		took("resume", func() {
			r, err := c.Resume(b.Context())
			require.NoError(b, err)
			require.Len(b, r.PendingCheckpoints, measure.Open)
			require.Len(b, r.ActiveIntents, measure.Open)
		})
		if round%2 == 0 {
			took("process", func() { run(b, dir, "resume", "--json") })
		}
		if round%3 == 0 { // it takes long, and three have a median
			took("jsonl", func() {
				found := 0
				_, err := measure.ParseJSONL(dir, func(l measure.Line) {
					if first := all[0]; first.match(l) {
						found++
					}
				})
				require.NoError(b, err)
				require.Equal(b, all[0].want, found)
			})
		}
	}
	for name, m := range got {
		b.ReportMetric(us(m.P(0.5))/1000, name+"-ms")
		b.ReportMetric(us(slices.Max(m.Times))/1000, name+"-slowest-ms")
	}
	b.ReportMetric(0, "ns/op")
}
