package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

// loaded is a host with n events whose bodies have about 400 bytes.
func loaded(b *testing.B, n int) *brokertest.Host {
	b.Helper()
	h := brokertest.Start(b)
	payload := []byte(`{"text":"` + strings.Repeat("durable ", 22) + `"}`)
	for n > 0 {
		events := make([]event.Event, min(n, event.MaxBatchLen))
		for i := range events {
			events[i] = event.Event{Type: "execution.tool_finish", StreamID: fmt.Sprintf("ses_%d", i%20), Actor: "agent/worker", Payload: payload}
		}
		_, err := h.Client.AppendBatch(b.Context(), events)
		require.NoError(b, err)
		n -= len(events)
	}
	return h
}

const benchEvents = 200_000

func perSecond(b *testing.B, n int, what string) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), what)
}

// BenchmarkFeed is the bare feed beside which the others are read.
func BenchmarkFeed(b *testing.B) {
	h := loaded(b, benchEvents)
	for b.Loop() {
		n := 0
		for _, err := range h.Client.Feed(b.Context(), client.FeedConfig{Until: benchEvents}) {
			require.NoError(b, err)
			n++
		}
		require.Equal(b, benchEvents, n)
	}
	perSecond(b, benchEvents, "messages/s")
}

// BenchmarkCatchUp writes the files from nothing.
func BenchmarkCatchUp(b *testing.B) {
	h := loaded(b, benchEvents)
	for b.Loop() {
		cfg := Config{Client: h.Client, Dir: b.TempDir()}
		ctx, cancel := context.WithCancel(b.Context())
		cfg.Progress = func(p Progress) {
			if p.Seq == benchEvents {
				cancel()
			}
		}
		require.NoError(b, Run(ctx, cfg))
	}
	perSecond(b, benchEvents, "lines/s")
}

func mirrored(b *testing.B) Config {
	h := loaded(b, benchEvents)
	cfg := Config{Client: h.Client, Dir: b.TempDir()}
	ctx, cancel := context.WithCancel(b.Context())
	cfg.Progress = func(p Progress) {
		if p.Seq == benchEvents {
			cancel()
		}
	}
	require.NoError(b, Run(ctx, cfg))
	cfg.Progress = nil
	return cfg
}

func BenchmarkVerify(b *testing.B) {
	cfg := mirrored(b)
	for b.Loop() {
		report, err := Verify(b.Context(), cfg)
		require.NoError(b, err)
		require.NoError(b, report.Problem)
	}
	perSecond(b, benchEvents, "lines/s")
}

func BenchmarkRestore(b *testing.B) {
	cfg := mirrored(b)
	for b.Loop() {
		b.StopTimer()
		h := brokertest.Start(b)
		b.StartTimer()
		_, err := Restore(b.Context(), RestoreConfig{Client: h.Client, Conn: h.Conn, From: []string{cfg.Dir}})
		require.NoError(b, err)
	}
	perSecond(b, benchEvents, "lines/s")
}

// BenchmarkLag is how long after the acknowledgement of an append its line is
// synced, at a given rate of appends.
func BenchmarkLag(b *testing.B) {
	for _, every := range []time.Duration{5 * time.Millisecond, 500 * time.Microsecond} {
		b.Run("every "+every.String(), func(b *testing.B) {
			h := loaded(b, 1)
			type mark struct {
				seq event.Sequence
				at  time.Time
			}
			written := make(chan mark, 1<<20)
			cfg := Config{Client: h.Client, Dir: b.TempDir(), Progress: func(p Progress) { written <- mark{p.Seq, time.Now()} }}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- Run(ctx, cfg) }()
			var acked []mark
			tick := time.NewTicker(every)
			defer tick.Stop()
			for b.Loop() {
				<-tick.C
				r, err := h.Client.Append(b.Context(), event.Event{Type: "a.b", StreamID: "s", Actor: "a"})
				require.NoError(b, err)
				acked = append(acked, mark{r.Seq, time.Now()})
			}
			var lags []time.Duration
			batches := 0
			for m := range written {
				batches++
				for len(acked) > 0 && acked[0].seq <= m.seq {
					lags = append(lags, m.at.Sub(acked[0].at))
					acked = acked[1:]
				}
				if len(acked) == 0 {
					break
				}
			}
			cancel()
			require.NoError(b, <-done)
			slices.Sort(lags)
			b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(lags[len(lags)-1].Microseconds())/1000, "max-ms")
			b.ReportMetric(float64(len(lags))/float64(batches), "lines/batch")
		})
	}
}
