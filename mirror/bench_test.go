package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
