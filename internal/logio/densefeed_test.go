package logio_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// A feed that reads everything to find what it is for brings the same as one that
// leaves it to the engine, and ends where that ends.
func TestDenseFeedBringsTheSame(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	l := open(t, h.Connect(t), logio.Config{})
	var events []event.Event
	for i := range 400 {
		e := newEvent("{}")
		events = append(events, e, event.Event{Type: event.AgentSpawned, StreamID: "s", Actor: "agent", Payload: fmt.Appendf(nil, `{"id":"i_%d"}`, i)})
	}
	appendAll(t, h, events)
	until, err := h.Client.Position(t.Context())
	require.NoError(t, err)
	_, err = h.Client.Append(t.Context(), newEvent(`"after the end"`))
	require.NoError(t, err)
	cfg := logio.FeedConfig{Subjects: []string{"events." + event.AgentSpawned + ".*", wire.GuardFilter(event.GuardIntent)}, Until: until}
	read := func(cfg logio.FeedConfig) (out []string) {
		for m, err := range l.Feed(t.Context(), cfg) {
			require.NoError(t, err)
			out = append(out, fmt.Sprint(m.Seq, m.Subject, string(m.Data)))
		}
		return out
	}
	found := read(cfg) // by the host's index
	cfg = cfg.Plain()
	want := read(cfg)
	require.Equal(t, want, found)
	require.Len(t, want, 800)
	require.GreaterOrEqual(t, len(want), logio.DenseFrom)
	require.Equal(t, want, read(scattered(cfg)))
	cfg.After = 100
	require.Equal(t, read(cfg), read(scattered(cfg)))
	r, err := h.Client.Resume(t.Context())
	require.NoError(t, err)
	require.Len(t, r.ActiveIntents, 400)
}

// A feed that loses its connection, and continues when the host has an index, yields no
// more than was requested.
func TestDenseFeedGoesOnByTheIndex(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the index is a host's of ours")
	h := brokertest.Start(t)
	l := open(t, h.Connect(t), logio.Config{})
	text := strings.Repeat("x", 24_000) // more than is fetched at once
	n := longtest.Pick(800, 2000)
	for range n / 400 {
		var events []event.Event
		for range 400 {
			events = append(events,
				event.Event{Type: "task.other", StreamID: "s", Actor: "a", Payload: fmt.Appendf(nil, `{"t":%q}`, text)},
				event.Event{Type: event.AgentSpawned, StreamID: "s", Actor: "agent", Payload: fmt.Appendf(nil, `{"id":%q}`, event.NewID())})
		}
		appendAll(t, h, events)
	}
	until, err := h.Client.Position(t.Context())
	require.NoError(t, err)
	cfg := logio.FeedConfig{Subjects: []string{"events." + event.AgentSpawned + ".*", wire.GuardFilter(event.GuardIntent)}, Until: until, Scattered: true}.PlainAtFirst()
	got := 0
	for m, err := range l.Feed(t.Context(), cfg) {
		require.NoError(t, err)
		require.True(t, wire.InSubjects(cfg.Subjects, m.Subject), m.Subject)
		if got++; got == 3 {
			indexed(t, h)
			h.Restart(t)
		}
	}
	require.Equal(t, 2*n, got)
}

func scattered(cfg logio.FeedConfig) logio.FeedConfig {
	cfg.Scattered = true
	return cfg
}

// appendAll appends events in batches of 400.
func appendAll(t *testing.T, h *brokertest.Host, events []event.Event) {
	t.Helper()
	for batch := range slices.Chunk(events, 400) {
		_, err := h.Client.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
	}
}
