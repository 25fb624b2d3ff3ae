package client_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// A feed that reads everything to find what it is for brings the same as one that
// leaves it to the engine, and ends where that ends.
func TestDenseFeedBringsTheSame(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	var events []event.Event
	for i := range 400 {
		e := newEvent("{}")
		events = append(events, e, event.Event{Type: event.AgentSpawned, StreamID: "s", Actor: "agent", Payload: fmt.Appendf(nil, `{"id":"i_%d"}`, i)})
	}
	for len(events) > 0 {
		_, err := h.Client.AppendBatch(t.Context(), events[:400])
		require.NoError(t, err)
		events = events[400:]
	}
	until, err := h.Client.Position(t.Context())
	require.NoError(t, err)
	_, err = h.Client.Append(t.Context(), newEvent(`"after the end"`))
	require.NoError(t, err)
	cfg := client.FeedConfig{Subjects: []string{"events." + event.AgentSpawned + ".*", wire.GuardKind(wire.GuardIntent)}, Until: until}
	read := func(cfg client.FeedConfig) (out []string) {
		for m, err := range h.Client.Feed(t.Context(), cfg) {
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
	require.GreaterOrEqual(t, len(want), client.DenseFrom)
	require.Equal(t, want, read(cfg.Scattered()))
	cfg.After = 100
	require.Equal(t, read(cfg), read(cfg.Scattered()))
	r, err := h.Client.Resume(t.Context())
	require.NoError(t, err)
	require.Len(t, r.ActiveIntents, 400)
}
