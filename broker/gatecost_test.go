package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// What the gate costs a client of the leader's, against neighbours without it, in turns in the same run: one append
// at a time, 64 and 512 at once, and batches of 999: GATE=1 go test -run TestGateCost -v ./broker.
func TestGateCost(t *testing.T) {
	if os.Getenv("GATE") == "" {
		t.Skip("a measurement: GATE=1 makes it")
	}
	path := filepath.Join(t.TempDir(), "agent")
	key, err := roles.Make("agent", roles.Agent, path)
	require.NoError(t, err)
	var clients []*client.Client
	for _, without := range []bool{true, false} {
		cfgs := clusterOf(t, 3)
		for i := range cfgs {
			cfgs[i].Keys, cfgs[i].AnyHeaders = []Key{KeyOf(key)}, without
		}
		nodes := upAll(t, cfgs)
		leader := slices.IndexFunc(nodes, func(b *Broker) bool { return b.server.JetStreamIsStreamLeader(b.cfg.account(), wire.LogName) })
		require.GreaterOrEqual(t, leader, 0)
		nc, err := client.Connect(t.Context(), client.Target{Servers: []string{nodes[leader].ClientURL()}, NKey: path}, nats.IgnoreDiscoveredServers())
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients = append(clients, c)
	}
	payload := fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("x", 200))
	single := func(c *client.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Append(ctx, event.Event{Type: "task.created", Actor: "a", Payload: payload})
		return err
	}
	batch := make([]event.Event, 999)
	for i := range batch {
		batch[i] = event.Event{Type: "task.created", Actor: "a", Payload: payload}
	}
	whole := func(c *client.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.AppendBatch(ctx, batch)
		return err
	}
	for _, load := range []struct {
		name     string
		do       func(*client.Client) error
		at, many int // so many at once, so many of each in a turn
		events   int
	}{
		{"one at a time", single, 1, 150, 1},
		{"64 at once", single, 64, 12, 1},
		{"512 at once", single, 512, 4, 1},
		{"batches of 999, one at a time", whole, 1, 4, 999},
		{"batches of 999, 8 at once", whole, 8, 2, 999},
	} {
		times := make([][]time.Duration, 2)
		rates := make([][]float64, 2)
		var failed [2]atomic.Int64
		for round := range 9 {
			for turn := range clients {
				i := (turn + round) % 2
				begun := time.Now()
				some := turnOf(clients[i], load.at, load.many, load.do, &failed[i])
				if round == 0 {
					continue
				}
				d := time.Since(begun)
				times[i] = append(times[i], some...)
				rates[i] = append(rates[i], float64(load.at*load.many*load.events)/d.Seconds())
			}
		}
		for i, name := range []string{"without", "with"} {
			slices.Sort(times[i])
			slices.Sort(rates[i])
			n := len(times[i])
			t.Logf("%s, %s: p50 %v, p99 %v, events/s median %.0f (%.0f to %.0f), failed %d", load.name, name, times[i][n/2].Round(10*time.Microsecond),
				times[i][n*99/100].Round(10*time.Microsecond), rates[i][len(rates[i])/2], rates[i][0], rates[i][len(rates[i])-1], failed[i].Load())
		}
	}
}

// turnOf does something many times by each of so many at once, and gives the times that it took.
func turnOf(c *client.Client, at, many int, do func(*client.Client) error, failed *atomic.Int64) (times []time.Duration) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range at {
		wg.Go(func() {
			for range many {
				begun := time.Now()
				if do(c) != nil {
					failed.Add(1)
				}
				d := time.Since(begun)
				mu.Lock()
				times = append(times, d)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return times
}
