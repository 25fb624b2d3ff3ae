package client_test

import (
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

// The owner of a connection closes it while a reader is in the middle: the reader
// brings its next event or ends with ErrClosed, without waiting for its context, and
// the engine clears its consumer away.
func TestReadersOfAConnectionThatIsClosed(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	const n = 5000 // more than one request brings
	for range n / 500 {
		_, err := h.Client.AppendBatch(t.Context(), numbered(500))
		require.NoError(t, err)
	}
	cl := brokertest.StartCluster(t)
	cc := cl.NewClient(t, client.Config{})
	for range n / 500 {
		_, err := cc.AppendBatch(t.Context(), numbered(500))
		require.NoError(t, err)
	}
	for _, tc := range []struct {
		name  string
		after int // events that are read before
		read  func(*client.Client) iter.Seq2[event.Recorded, error]
	}{
		{"a query", 10, func(c *client.Client) iter.Seq2[event.Recorded, error] { return c.Query(t.Context(), event.Filter{}) }},
		{"a subscription that catches up", 10, func(c *client.Client) iter.Seq2[event.Recorded, error] {
			return c.Subscribe(t.Context(), event.Filter{})
		}},
		{"a subscription that waits", n, func(c *client.Client) iter.Seq2[event.Recorded, error] {
			return c.Subscribe(t.Context(), event.Filter{})
		}},
	} {
		for where, connect := range map[string]func(testing.TB) *nats.Conn{"host": h.Connect, "cluster": cl.Connect} {
			nc := connect(t)
			c, err := client.New(t.Context(), nc, client.Config{})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			var last error
			var closed time.Time
			got := 0
			for r, err := range tc.read(c) {
				if last = err; err != nil {
					continue
				}
				got++
				require.EqualValues(t, got, r.Seq, "%s, %s", tc.name, where)
				if got == tc.after {
					closed = time.Now()
					go nc.Close()
				}
			}
			// All of a query's events may have been here already.
			if last != nil || got != n || tc.after == n {
				require.ErrorIs(t, last, client.ErrClosed, "%s, %s, after %d", tc.name, where, got)
			}
			require.Less(t, time.Since(closed), 3*time.Second, "%s, %s", tc.name, where)
			for _, err := range c.Query(t.Context(), event.Filter{}) {
				require.ErrorIs(t, err, client.ErrClosed)
			}
		}
	}
	// No process is left to remove the consumers from the server: the engine does it.
	require.Eventually(t, func() bool { return len(consumers(t, h)) == 0 }, time.Minute, 100*time.Millisecond)
}

// Answers are held up for longer than a reader's heartbeat, and then come: nothing
// is brought twice and nothing is missing.
func TestStalledAnswers(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	p := h.Proxy(t)
	c := p.NewClient(t, client.Config{})
	s := subscribe(t, c, event.Filter{})
	rs, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	require.Equal(t, rs, s.next(t, 10))
	old := consumers(t, h)
	require.Len(t, old, 1)
	p.StallAnswers()
	done := make(chan event.Recorded, 1)
	go func() {
		r, err := c.Append(within(t, 30*time.Second), newEvent("1"))
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	require.Eventually(t, func() bool { return position(t, h.Client) >= 11 }, 10*time.Second, time.Millisecond)
	more, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	// The reader notices that no heartbeat comes, and leaves its consumer.
	require.Eventually(t, func() bool { return !slices.Contains(consumers(t, h), old[0]) }, 20*time.Second, 10*time.Millisecond)
	p.Resume()
	rs = append(append(rs, <-done), more...)
	require.Equal(t, rs[10:], s.next(t, 11))
	s.ended(t)
	require.Equal(t, rs, query(t, h.Client, event.Filter{}))
}
