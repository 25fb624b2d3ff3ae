package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/projection"
)

// The mark of an import is believed behind an import's guard, and nowhere else: an agent
// that writes it by hand does not keep the sweeper away.
func TestMarkOfAnImport(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	marked := func(id, typ, payload string) event.Recorded {
		e := newEvent(payload)
		e.ID, e.Type, e.CorrelationID, e.Timestamp = id, typ, "c", time.UnixMilli(1)
		return event.Recorded{Event: e, Imported: true}
	}
	look := func(cp, intent string, want bool) {
		t.Helper()
		one, err := c.Checkpoints().Get(t.Context(), cp)
		require.NoError(t, err)
		require.Equal(t, want, one.Imported)
		i, err := c.Intents().Get(t.Context(), intent)
		require.NoError(t, err)
		require.Equal(t, want, i.Imported)
		all, err := c.Checkpoints().List(t.Context(), false)
		require.NoError(t, err)
		intents, err := c.Intents().List(t.Context(), false)
		require.NoError(t, err)
		require.Contains(t, all, one)
		at := slices.IndexFunc(intents, func(x projection.Intent) bool { return x.ID == intent })
		require.Equal(t, want, intents[at].Imported)
	}
	store(t, h, marked("e1", event.CheckpointRequested, `{"id":"cp_1","decision_point":"?"}`))
	store(t, h, marked("e2", event.AgentSpawned, `{"id":"i_1"}`))
	look("cp_1", "i_1", false)

	report, err := c.Admin().Import(t.Context(), "files", []event.Event{
		marked("e3", event.CheckpointRequested, `{"id":"cp_2","decision_point":"?"}`).Event, marked("e4", event.AgentSpawned, `{"id":"i_2"}`).Event}, nil)
	require.NoError(t, err)
	require.Equal(t, 2, report.Stored)
	look("cp_2", "i_2", true)
	look("cp_1", "i_1", false)
	_, err = c.AppendBatch(t.Context(), numbered(999))
	require.NoError(t, err)
	store(t, h, marked("e5", event.CheckpointRequested, `{"id":"cp_3","decision_point":"?"}`))
	store(t, h, marked("e6", event.AgentSpawned, `{"id":"i_3"}`))
	look("cp_3", "i_3", false)
	look("cp_2", "i_2", true)
}
