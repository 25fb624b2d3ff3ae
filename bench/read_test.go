package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/measure"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

const catchUpEvents = 100_000

// Everything from the first event on: a subscription and the mirror, beside the
// engine's own ordered consumer, and the lines of the mirror parsed.
func BenchmarkCatchUp(b *testing.B) {
	h := host(b)
	require.NoError(b, measure.Fill(b.Context(), h.Bare, catchUpEvents))
	position, err := h.Client.Position(b.Context())
	require.NoError(b, err)
	indexed(b, h)
	var written string
	sides := []measure.Side{
		{Name: "ours", Op: func(ctx context.Context) error {
			n := 0
			for _, err := range h.Client.Subscribe(ctx, event.Filter{Limit: catchUpEvents}) {
				if err != nil {
					return err
				}
				n++
			}
			if n != catchUpEvents {
				return fmt.Errorf("%d events instead of %d", n, catchUpEvents)
			}
			return nil
		}, Each: catchUpEvents},
		{Name: "bare", Op: func(ctx context.Context) error { return h.Bare.Read(ctx, []string{wire.AllEvents}, catchUpEvents) }, Each: catchUpEvents},
		{Name: "mirror", Op: func(ctx context.Context) error {
			dir := b.TempDir()
			if written == "" {
				written = dir
			}
			return mirrorTo(ctx, h, dir, position)
		}, Each: catchUpEvents},
		// Of the first turn's files: a mirror that catches up leaves what it wrote out of the
		// page cache, where the turn that is not counted brings it.
		{Name: "jsonl", Op: func(context.Context) error {
			n, err := measure.ParseJSONL(written, func(measure.Line) {})
			if err == nil && n != catchUpEvents {
				err = fmt.Errorf("%d lines instead of %d", n, catchUpEvents)
			}
			return err
		}, Each: catchUpEvents},
	}
	all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(8), For: 0, InFlight: 1}, sides...)
	require.NoError(b, err)
	report(b, all)
}

// mirrorTo writes the files from nothing up to position.
func mirrorTo(ctx context.Context, h *measure.Host, dir string, position event.Sequence) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return mirror.Run(ctx, mirror.Config{Client: h.Client, Dir: dir, Progress: func(p mirror.Progress) {
		if p.Seq >= position {
			cancel()
		}
	}})
}

// From the beginning of an append to its handler in another process, beside the append
// alone.
func BenchmarkLive(b *testing.B) {
	h := host(b)
	w := startWorker(b, h)
	var heard, appended measure.Measured
	for range rounds(8) {
		const each = 250
		w.begin(b, job{Do: "hear", N: each})
		w.ready(b)
		tick := time.NewTicker(2 * time.Millisecond)
		for range each {
			<-tick.C // one that comes while the last is still on its way would wait for it
			e := measure.Event()
			began := time.Now()
			e.Payload = fmt.Appendf(nil, `{"sent":%d,"text":%q}`, began.UnixNano(), strings.Repeat("durable ", 18))
			_, err := h.Client.Append(b.Context(), e)
			require.NoError(b, err)
			appended.Times = append(appended.Times, time.Since(began))
		}
		tick.Stop()
		heard.Add(w.end(b))
	}
	appended.Name, heard.Name = "append", "ours"
	report(b, []measure.Measured{heard, appended})
}

// How long after its acknowledgement an event is in the mirror's file, synced, while
// 2,000 are appended each second. Each append has a time at which it is due, and those that
// are late are made up for: the load is what it says as long as the log takes it, which the
// table checks.
func BenchmarkMirrorLag(b *testing.B) {
	h := host(b)
	type mark struct {
		seq event.Sequence
		at  time.Time
	}
	written := make(chan mark, 1<<20)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	cfg := mirror.Config{Client: h.Client, Dir: b.TempDir(), Progress: func(p mirror.Progress) { written <- mark{p.Seq, time.Now()} }}
	go func() { done <- mirror.Run(ctx, cfg) }()

	const appenders, perSecond = 8, 2000
	total := rounds(4) * perSecond
	var mu sync.Mutex
	var acked []mark
	var all sync.WaitGroup
	began := time.Now()
	for g := range appenders {
		all.Go(func() {
			for i := g; i < total; i += appenders {
				<-time.After(time.Until(began.Add(time.Duration(i) * time.Second / perSecond)))
				r, err := h.Client.Append(b.Context(), measure.Event())
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, mark{r.Seq, time.Now()})
				mu.Unlock()
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	byAck := map[event.Sequence]time.Time{}
	var last event.Sequence
	for _, m := range acked {
		byAck[m.seq] = m.at
		last = max(last, m.seq)
	}
	lag := measure.Measured{Name: "lag"}
	for at := event.Sequence(0); at < last; {
		m := <-written
		for ; at < m.seq; at++ {
			if acked, ok := byAck[at+1]; ok {
				lag.Times = append(lag.Times, max(0, m.at.Sub(acked)))
			}
		}
	}
	cancel()
	require.NoError(b, <-done)
	report(b, []measure.Measured{lag})
	b.ReportMetric(us(lag.P(0.99))/1000, "lag-p99-ms")
	b.ReportMetric(us(lag.P(0.5))/1000, "lag-p50-ms")
	b.ReportMetric(float64(len(acked))/took.Seconds(), "offered/s")
}
