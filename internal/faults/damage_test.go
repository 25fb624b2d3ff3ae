package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// alone is one host with a log of n events of three streams.
func alone(t *testing.T, n int) (*System, *Node, *client.Client) {
	t.Helper()
	bin, err := Build(t.Context(), t.TempDir())
	require.NoError(t, err)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	s.Nodes = s.Nodes[:1]
	require.NoError(t, s.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))
	c, end, err := s.Client(t.Context())
	require.NoError(t, err)
	t.Cleanup(end)
	fill(t, c, n)
	return s, s.Nodes[0], c
}

func fill(t *testing.T, c *client.Client, n int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		var batch []event.Event
		for k := i; k < min(n, i+100); k++ {
			batch = append(batch, event.Event{Type: "task.created", Actor: "agent/a", StreamID: fmt.Sprintf("s%d", k%3),
				Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, k, strings.Repeat("x", 300))})
		}
		_, err := c.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
	}
}

// bare demands what a consumer of the engine's own brings of a copy of a node's store, without
// an error.
func bare(t *testing.T, n *Node, want int) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(n.Dir, durablestream.HostDir, broker.StoreDir))))
	require.NoError(t, withServer(dir, func(js jetstream.JetStream) error {
		s, err := js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)
		cons, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
		require.NoError(t, err)
		got, err := cons.FetchNoWait(want + 10)
		require.NoError(t, err)
		brought := 0
		for range got.Messages() {
			brought++
		}
		require.NoError(t, got.Error())
		require.Equal(t, want, brought)
		return nil
	}))
}

// A byte that is changed in the middle of a stored block, under a running host: nobody
// leaves it out in silence.
func TestFlippedByteIsTold(t *testing.T) {
	const n, at = 2000, 777
	s, host, c := alone(t, n)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	live := make(chan error, 1)
	follower, end, err := s.Client(ctx)
	require.NoError(t, err)
	defer end()
	seen := make(chan struct{})
	go func() {
		k := 0
		for _, err := range follower.Subscribe(ctx, event.Filter{StreamID: "s1"}) {
			if err != nil {
				live <- err
				return
			}
			if k++; k == n/3 {
				close(seen)
			}
		}
	}()
	<-seen
	p, err := host.Find(at)
	require.NoError(t, err)
	require.NoError(t, p.Flip(p.Length/2))
	begun := time.Now()

	// From the first moment: all of it, as long as the engine has it in memory, or an error.
	var damage *client.DamageError
	told := func(f event.Filter, all int) {
		t.Helper()
		require.Eventually(t, func() bool {
			got, err := count(c.Query(ctx, f))
			if err == nil {
				require.Equal(t, all, got, "left out in silence")
				return false
			}
			require.ErrorAs(t, err, &damage)
			require.Equal(t, event.Sequence(at), damage.From)
			return true
		}, time.Minute, 20*time.Millisecond)
		t.Logf("%+v: %v after %v", f, damage, time.Since(begun))
	}
	told(event.Filter{StreamID: "s" + fmt.Sprint((at-1)%3)}, 666)
	told(event.Filter{}, n)
	_, err = count(c.Subscribe(ctx, event.Filter{Types: []string{"task.*"}}))
	require.ErrorAs(t, err, &damage)
	require.Equal(t, event.Sequence(at), damage.From)

	// The host finds it, and says so.
	require.Eventually(t, func() bool {
		out, code := host.Command(ctx, "status", "--json")
		return code == 1 && strings.Contains(out, `"store_damaged"`)
	}, time.Minute, 100*time.Millisecond)
	t.Logf("status: %v", time.Since(begun))
	out, code := host.Command(ctx, "query")
	require.Equal(t, 1, code)
	require.Contains(t, out, "position 777 cannot be read")
	out, code = host.Command(ctx, "mirror", "verify")
	require.Equal(t, 1, code)
	require.Contains(t, out, "damaged")
	out, code = host.Command(ctx, "tail", "--from", "start")
	require.Equal(t, 1, code)
	require.Contains(t, out, "position 777 cannot be read")

	// A subscriber that has read past it is told too, and one that is there for the new
	// events goes on.
	require.ErrorAs(t, <-live, &damage)
	t.Logf("subscriber: %v", time.Since(begun))

	// The engine alone: after a crash it also cuts off all that is whole behind it, and
	// calls it deleted.
	bare(t, host, at-1)
	require.NoError(t, s.Stop())
	bare(t, host, n-1)
}

func count(events func(func(event.Recorded, error) bool)) (n int, err error) {
	for _, e := range events {
		if e != nil {
			return n, e
		}
		n++
	}
	return n, nil
}
