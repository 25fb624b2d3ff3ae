package client_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// benchPayload makes events of about 400 bytes.
const benchPayload = `{"tool":"edit","path":"internal/wire/subject.go","lines":[12,48],"text":"` +
	"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor." + `"}`

// Each of our figures stands beside a bare nats.go publish of the same message to the
// same broker in the same run.
//
//	go test -run '^$' -bench . -benchtime 20000x ./client
func BenchmarkAppend(b *testing.B) {
	h := brokertest.Start(b)
	js, err := jetstream.New(h.Connect(b))
	require.NoError(b, err)
	ours := func(ctx context.Context) error {
		_, err := h.Client.Append(ctx, newEvent(benchPayload))
		return err
	}
	bare := func(ctx context.Context) error {
		_, err := js.PublishMsg(ctx, benchMessage())
		return err
	}
	b.Run("one", func(b *testing.B) {
		var times [2][]time.Duration
		for b.Loop() {
			for i, f := range []func(context.Context) error{ours, bare} { // in turn, so that both meet the same disk
				began := time.Now()
				if err := f(b.Context()); err != nil {
					b.Fatal(err)
				}
				times[i] = append(times[i], time.Since(began))
			}
		}
		report(b, "ours", times[0])
		report(b, "bare", times[1])
		b.ReportMetric(0, "ns/op") // of both together: says nothing
	})
	for _, n := range []int{8, 64, 256, 512, 1024} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var times [2][]time.Duration
			var took [2]time.Duration
			const turns = 8
			for turn := range 2 * turns {
				i := turn % 2
				began := time.Now()
				times[i] = append(times[i], inParallel(b, n, (b.N+turns-1)/turns, []func(context.Context) error{ours, bare}[i])...)
				took[i] += time.Since(began)
			}
			for i, name := range []string{"ours", "bare"} {
				b.ReportMetric(float64(len(times[i]))/took[i].Seconds(), name+"/s")
				report(b, name, times[i])
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchMessage() *nats.Msg {
	e := newEvent(benchPayload)
	e.ID, e.CorrelationID, e.Timestamp = event.NewID(), "0190a0a0-0000-7000-8000-000000000000", event.Now()
	return wire.Encode(event.Recorded{Event: e})
}

// inParallel calls f so many times from so many goroutines.
func inParallel(b *testing.B, goroutines, calls int, f func(context.Context) error) []time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(calls))
	times := make([][]time.Duration, goroutines)
	var all sync.WaitGroup
	for g := range times {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := f(b.Context()); err != nil {
					b.Error(err)
					return
				}
				times[g] = append(times[g], time.Since(began))
			}
		})
	}
	all.Wait()
	return slices.Concat(times...)
}

func report(b *testing.B, name string, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))].Microseconds()) }
	b.ReportMetric(at(0.50), name+"-p50-µs")
	b.ReportMetric(at(0.99), name+"-p99-µs")
}

// Catching up from the first event, beside a bare ordered consumer.
func BenchmarkSubscribe(b *testing.B) {
	const events = 100 * event.MaxBatchLen
	h := brokertest.Start(b)
	batch := make([]event.Event, event.MaxBatchLen)
	for i := range batch {
		batch[i] = newEvent(benchPayload)
	}
	for range events / len(batch) {
		_, err := h.Client.AppendBatch(b.Context(), batch)
		require.NoError(b, err)
	}
	js, err := jetstream.New(h.Connect(b))
	require.NoError(b, err)
	var took [2]time.Duration
	for b.Loop() {
		began := time.Now()
		n := 0
		for _, err := range h.Client.Subscribe(b.Context(), event.Filter{Limit: events}) {
			require.NoError(b, err)
			n++
		}
		require.Equal(b, events, n)
		took[0] += time.Since(began)

		began = time.Now()
		cons, err := js.OrderedConsumer(b.Context(), wire.LogName, jetstream.OrderedConsumerConfig{FilterSubjects: []string{wire.AllEvents}})
		require.NoError(b, err)
		msgs, err := cons.Messages()
		require.NoError(b, err)
		for range events {
			if _, err := msgs.Next(); err != nil {
				b.Fatal(err)
			}
		}
		msgs.Stop()
		took[1] += time.Since(began)
	}
	for i, name := range []string{"ours/s", "bare/s"} {
		b.ReportMetric(float64(b.N*events)/took[i].Seconds(), name)
	}
	b.ReportMetric(0, "ns/op")
}
