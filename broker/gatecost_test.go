package broker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/roles"
)

// What the gate costs an append, against a neighbour without it, in turns in the same
// run: GATE=1 go test -run TestGateCost -v ./broker.
func TestGateCost(t *testing.T) {
	if os.Getenv("GATE") == "" {
		t.Skip("a measurement: GATE=1 makes it")
	}
	path := filepath.Join(t.TempDir(), "agent")
	key, err := roles.Make("agent", roles.Agent, path)
	require.NoError(t, err)
	var clients []*client.Client
	for _, without := range []bool{true, false, true} {
		cfgs := clusterOf(t, 3)
		for i := range cfgs {
			cfgs[i].Keys, cfgs[i].CheckHeaders = []roles.Key{key}, !without
		}
		nodes := upAll(t, cfgs)
		nc, err := client.Connect(t.Context(), client.Target{Servers: []string{nodes[0].Address().URL}, NKey: path})
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients = append(clients, c)
	}
	times := make([][]time.Duration, len(clients))
	for round := range 40 {
		for i, c := range clients {
			for range 50 {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				_, err := c.Append(ctx, event.Event{Type: "task.created", Actor: "a"})
				cancel()
				require.NoError(t, err)
				if round > 2 {
					times[i] = append(times[i], time.Since(begun))
				}
			}
		}
	}
	for i, name := range []string{"without", "with", "without again"} {
		slices.Sort(times[i])
		n := len(times[i])
		t.Logf("%s: p50 %v, p90 %v, p99 %v", name, times[i][n/2], times[i][n*9/10], times[i][n*99/100])
	}
}
