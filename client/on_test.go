package client_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

func on(t *testing.T, c *client.Client, pattern string, f func(event.Recorded)) *client.Handler {
	t.Helper()
	h, err := c.On(t.Context(), pattern, f)
	require.NoError(t, err)
	t.Cleanup(func() { h.Off(); <-h.Done() })
	return h
}

func TestOn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	appendOne := func(typ string) event.Recorded {
		r, err := h.Client.Append(t.Context(), event.Event{Type: typ, StreamID: "s", Actor: "a"})
		require.NoError(t, err)
		return r
	}
	appendOne("task.created") // before: not seen
	got := make(chan event.Recorded, 10)
	x := on(t, h.Client, "task.*", func(r event.Recorded) { got <- r })
	first := appendOne("task.created")
	appendOne("other.thing")
	second := appendOne("task.completed")
	require.Equal(t, first, <-got)
	require.Equal(t, second, <-got)
	require.Eventually(t, func() bool { return x.Seq() == second.Seq && behind(t, x) == 0 }, 5*time.Second, time.Millisecond)
	h.Restart(t)
	third := appendOne("task.created")
	require.Equal(t, third, <-got)
	x.Off()
	x.Off()
	<-x.Done()
	require.NoError(t, x.Err())
	appendOne("task.created")
	require.Empty(t, got)
	_, err := h.Client.On(t.Context(), "not a pattern", func(event.Recorded) {})
	invalid, ok := errorIs[*event.InvalidError](err)
	require.True(t, ok, "%v", invalid)
}

// The context of On bounds its beginning, not the handler's life.
func TestOnOutlivesItsContext(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan event.Recorded, 1)
	x, err := h.Client.On(ctx, ">", func(r event.Recorded) { got <- r })
	require.NoError(t, err)
	cancel()
	r, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.Equal(t, r, <-got)
	h.Client.Close()
	<-x.Done()
	require.NoError(t, x.Err())
}

func TestSlowHandlerHarmsNobody(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	const n = 50
	release := make(chan struct{})
	var slow, quick atomic.Int64
	s := on(t, h.Client, ">", func(event.Recorded) { <-release; slow.Add(1) })
	t.Cleanup(func() {
		select {
		case <-release:
		default:
			close(release)
		}
	})
	q := on(t, h.Client, ">", func(event.Recorded) { quick.Add(1) })
	_, err := h.Client.AppendBatch(t.Context(), numbered(n))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return quick.Load() == n && behind(t, q) == 0 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return behind(t, s) > 1 }, 5*time.Second, time.Millisecond)
	require.Zero(t, slow.Load())
	require.Zero(t, s.Seq())
	close(release)
	require.Eventually(t, func() bool { return slow.Load() == n && behind(t, s) == 0 && s.Seq() == n }, 10*time.Second, time.Millisecond)
}

// lines gets what a logger writes, a line at a time.
type lines chan []byte

func (l lines) Write(b []byte) (int, error) { l <- bytes.Clone(b); return len(b), nil }

func TestPanickingHandlerHarmsNobody(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	words := make(lines, 100)
	c := h.NewClient(t, client.Config{Logger: slog.New(slog.NewTextHandler(words, nil))})
	got, well := make(chan event.Recorded, 10), make(chan event.Recorded, 10)
	x := on(t, c, ">", func(r event.Recorded) {
		if string(r.Payload) == `"bad"` {
			panic("no good")
		}
		got <- r
	})
	on(t, c, ">", func(r event.Recorded) { well <- r })
	for _, p := range []string{`"a"`, `"bad"`, `"bad"`, `"b"`} {
		_, err := c.Append(t.Context(), newEvent(p))
		require.NoError(t, err)
	}
	require.Equal(t, `"a"`, string((<-got).Payload))
	require.Equal(t, `"b"`, string((<-got).Payload))
	require.EqualValues(t, 2, x.Panics())
	require.NoError(t, x.Err())
	for range 4 {
		<-well
	}
	require.Contains(t, string(<-words), "no good")
}

func TestOffFromInside(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	var calls atomic.Int64
	self := make(chan *client.Handler, 1)
	x, err := h.Client.On(t.Context(), ">", func(event.Recorded) {
		calls.Add(1)
		(<-self).Off()
	})
	require.NoError(t, err)
	self <- x
	_, err = h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	<-x.Done()
	require.EqualValues(t, 1, calls.Load())
	require.NoError(t, x.Err())
}

func behind(t *testing.T, h *client.Handler) uint64 {
	n, err := h.Behind(t.Context())
	if err != nil {
		t.Error(err)
	}
	return n
}
