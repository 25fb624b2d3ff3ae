package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/measure"
)

// One append at a time, beside the engine alone, SQLite and the disk alone.
func BenchmarkAppendOne(b *testing.B) {
	h := host(b)
	l := newLite(b)
	f, err := measure.NewFile(filepath.Join(b.TempDir(), "plain"))
	require.NoError(b, err)
	defer f.Close()
	all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(100), For: 15 * time.Millisecond, InFlight: 1},
		ours(h), bare(h), measure.Side{Name: "sqlite", Op: l.Append}, measure.Side{Name: "file", Op: f.Append})
	require.NoError(b, err)
	report(b, all)
}

// Many through one client, beside as many bare publishes.
func BenchmarkAppendInFlight(b *testing.B) {
	for _, n := range []int{8, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := host(b)
			all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(10), For: 250 * time.Millisecond, InFlight: n}, ours(h), bare(h))
			require.NoError(b, err)
			report(b, all)
		})
	}
}

// A lone appender in one process, while another has 512 in flight: of ours, which are
// stored in joined batches, or of bare publishes.
func BenchmarkAppendBesideMany(b *testing.B) {
	h := host(b)
	many, lone := startWorker(b, h), startWorker(b, h)
	var got [2]measure.Measured
	for round := range rounds(10) * 2 {
		kind := []string{"ours", "bare"}[round%2]
		many.begin(b, job{Do: kind, InFlight: 512, For: 350 * time.Millisecond})
		m := together(b, []*worker{lone}, job{Do: "ours", InFlight: 1, For: 300 * time.Millisecond})
		many.end(b)
		m.Name = kind
		got[round%2].Add(m)
	}
	got[0].Name, got[1].Name = "ours", "bare"
	report(b, got[:])
}

// Eight processes, one append at a time each.
func BenchmarkAppendProcesses(b *testing.B) {
	h := host(b)
	var workers []*worker
	for range 8 {
		workers = append(workers, startWorker(b, h))
	}
	var got [2]measure.Measured
	for round := range rounds(8) * 2 {
		kind := []string{"ours", "bare"}[round%2]
		m := together(b, workers, job{Do: kind, InFlight: 1, For: 250 * time.Millisecond})
		m.Name = kind
		got[round%2].Add(m)
	}
	report(b, got[:])
}

func BenchmarkAppendBatch(b *testing.B) {
	for _, n := range []int{100, 999} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := host(b)
			l := newLite(b)
			of := func(f func(context.Context, int) error) func(context.Context) error {
				return func(ctx context.Context) error { return f(ctx, n) }
			}
			all, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(12), For: 100 * time.Millisecond, InFlight: 1},
				measure.Side{Name: "ours", Op: measure.BatchAppender(h.Client, n), Each: n},
				measure.Side{Name: "bare", Op: of(h.Bare.Batch), Each: n}, measure.Side{Name: "sqlite", Op: of(l.Batch), Each: n})
			require.NoError(b, err)
			report(b, all)
		})
	}
}
