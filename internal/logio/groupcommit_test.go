package logio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// batched counts the stored events that came in a batch.
func batched(t *testing.T, l journal) (n int) {
	t.Helper()
	end, err := l.Barrier(t.Context())
	require.NoError(t, err)
	for m, err := range l.Feed(t.Context(), logio.FeedConfig{Until: end, HeadersOnly: true}) {
		require.NoError(t, err)
		if m.Header.Get(wire.HeaderBatchID) != "" {
			n++
		}
	}
	return n
}

// Appends that wait together are stored together, each once, each with its own answer;
// few are not.
func TestAppendsThatWaitAreGrouped(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	l := open(t, h.Connect(t), logio.Config{})
	ctx := within(t, time.Minute)
	appendAll := func(appenders, each int) map[string]event.Sequence {
		var mu sync.Mutex
		got := map[string]event.Sequence{}
		var all sync.WaitGroup
		for a := range appenders {
			all.Go(func() {
				var before event.Sequence
				for i := range each {
					e := newEvent(fmt.Sprintf(`{"n":%d}`, i))
					e.StreamID = fmt.Sprintf("a%d.%d", appenders, a)
					r, err := l.Append(ctx, e)
					if err != nil || r.Seq <= before {
						t.Errorf("seq %d after %d: %v", r.Seq, before, err)
						return
					}
					before = r.Seq
					mu.Lock()
					got[r.ID] = r.Seq
					mu.Unlock()
				}
			})
		}
		all.Wait()
		return got
	}
	rounds := longtest.Pick(5, 10)
	want := appendAll(100, 10)
	if os.Getenv(brokertest.ServerVariable) == "" {
		require.Zero(t, batched(t, l), "100 are not grouped")
	}
	for id, seq := range appendAll(700, rounds) {
		want[id] = seq
	}
	log := query(t, l, event.Filter{})
	require.Len(t, log, 1000+700*rounds)
	for _, r := range log {
		require.Equal(t, want[r.ID], r.Seq)
	}
	if os.Getenv(brokertest.ServerVariable) != "cluster" {
		require.Greater(t, batched(t, l), 200*rounds)
	}
}

// One that is refused, or given up, spoils no other.
func TestGroupedAppendsFailAlone(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	l := open(t, h.Connect(t), logio.Config{})
	was, err := l.Append(t.Context(), event.Event{ID: "again", Type: "a.b", Actor: "user", StreamID: "s", Payload: []byte(`1`)})
	require.NoError(t, err)
	rounds := longtest.Pick(3, 6)
	ctx := within(t, time.Minute)
	var all sync.WaitGroup
	for a := range 700 {
		all.Go(func() {
			for i := range rounds {
				e := newEvent(`{}`)
				ctx, cancel := context.WithCancel(ctx)
				switch {
				case a%100 == 0: // stored already, as it is
					e = event.Event{ID: "again", Type: "a.b", Actor: "user", StreamID: "s", Payload: []byte(`1`)}
				case a%100 == 1: // the id of another
					e.ID = "again"
				case a%100 == 2: // two with one id at the same time
					e.ID, e.Actor, e.StreamID = fmt.Sprint("twice", i), "user", "s"
				case a%100 == 3:
					time.AfterFunc(time.Duration(i)*time.Millisecond, cancel) // somewhere on its way
				}
				r, err := l.Append(ctx, e)
				switch {
				case a%100 == 0 && (err != nil || r.Seq != was.Seq), a%100 == 1 && !errors.Is(err, event.ErrDuplicateID),
					a%100 == 2 && err != nil, a%100 == 3 && err != nil && !errors.Is(err, context.Canceled), a%100 > 3 && err != nil:
					t.Errorf("%d %d: %v %v", a, i, r.Seq, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, r := range query(t, l, event.Filter{Linearizable: true}) {
		require.False(t, seen[r.ID], r.ID)
		seen[r.ID] = true
	}
	require.GreaterOrEqual(t, len(seen), 1+rounds+rounds*700*96/100)
}

// The host is killed while hundreds wait: nothing that was acknowledged is lost, nothing
// is stored twice, no call returns an error.
func TestGroupedAppendsAcrossKills(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "host")
	run := brokertest.ChildHost(t, dir)
	nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir)})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c := open(t, nc, logio.Config{})
	ctx, cancel := context.WithCancel(within(t, 2*time.Minute))
	acked := make(chan event.Recorded, 1000)
	var all sync.WaitGroup
	for range 700 {
		all.Go(func() {
			for ctx.Err() == nil {
				r, err := c.Append(context.WithoutCancel(ctx), newEvent(`{"pad":"`+strings.Repeat("x", 300)+`"}`))
				if err != nil {
					t.Error(err)
					return
				}
				acked <- r
			}
		})
	}
	want := map[string]event.Sequence{}
	for range longtest.Pick(2, 4) {
		for range longtest.Pick(1500, 3000) {
			r := <-acked
			want[r.ID] = r.Seq
		}
		require.NoError(t, run.Process.Kill())
		run.Wait() // its error is the kill
		run = brokertest.ChildHost(t, dir)
	}
	cancel()
	go func() { all.Wait(); close(acked) }()
	for r := range acked {
		want[r.ID] = r.Seq
	}
	log := query(t, c, event.Filter{Linearizable: true})
	require.Len(t, log, len(want), "each was acknowledged in the end")
	for _, r := range log {
		require.Equal(t, want[r.ID], r.Seq)
	}
	require.Greater(t, batched(t, c), len(want)/3)
}
