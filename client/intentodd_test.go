package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// A creation behind the guard takes the place of a bare one that nobody worked on,
// for every reader; one that somebody works on stays.
func TestCreateOverABareSpawn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	bare := func(id string) {
		publishRaw(t, h, event.Event{Type: event.AgentSpawned, StreamID: "ses", Actor: "old", Payload: payload(t, event.Intent{ID: id, Description: "bare"})})
	}
	bare("free")
	bare("taken")
	claim(t, h.Client, "taken", "w", time.Minute)
	again := func(id string) error {
		_, err := h.Client.Intents().Create(t.Context(), client.IntentSpec{ID: id, StreamID: "ses", Actor: "a", Description: "guarded"})
		return err
	}
	require.NoError(t, again("free"))
	var conflict *client.ConflictError
	require.ErrorAs(t, again("taken"), &conflict)
	bare("free") // once more, after it
	all, err := h.Client.Intents().List(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, i := range all {
		one, err := h.Client.Intents().Get(t.Context(), i.ID)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"free": "guarded", "taken": "bare"}[i.ID], i.Description)
		one.Stored, i.Stored = time.Time{}, time.Time{}
		require.Equal(t, i, one)
	}
}

// An id whose guard was written by hand is unusable: the error says to use another.
func TestGuardByHandTakesTheID(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for _, kind := range []string{event.GuardIntent, event.GuardRequest} {
		_, err := h.Admin(t).PublishMsg(t.Context(), wire.EncodeGuard(wire.GuardSubject(kind, "i1"), []byte(`{}`)))
		require.NoError(t, err)
	}
	_, err := h.Client.Intents().Create(t.Context(), client.IntentSpec{ID: "i1", StreamID: "s", Actor: "a", Description: "d"})
	require.ErrorContains(t, err, "intent i1 is there already: use another id")
	_, err = h.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{
		ID: "i1", StreamID: "s", RequestedBy: "a", DecisionPoint: "d", Options: []event.Option{{ID: "yes", Label: "yes"}},
	})
	require.ErrorContains(t, err, "checkpoint i1 is taken, and no request of that id is found: use another id")
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict)
}

// Claims by hand on the guard cost nobody their state: an unreadable claim stays in its
// place, and the rest continues.
func TestGuardThatSaysNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	i := create(t, h.Client)
	l := claim(t, h.Client, i.ID, "w", time.Minute)
	_, err := h.Admin(t).PublishMsg(t.Context(), wire.EncodeGuard(wire.GuardSubject(event.GuardIntent, i.ID), []byte(`nonsense`)))
	require.NoError(t, err)
	_, err = h.Client.Intents().Complete(t.Context(), i.ID, client.End{By: "w", Token: l.Token})
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict)
	now, err := h.Client.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.False(t, now.Ended())
	l = claim(t, h.Client, i.ID, "w", time.Minute)
	_, err = h.Client.Intents().Complete(t.Context(), i.ID, client.End{By: "w", Token: l.Token})
	require.NoError(t, err)
}

func TestOddIDs(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for n, id := range []string{"a.b", "*", ">", "a b", "é", "%41", "guards.intent.x"} {
		i := create(t, h.Client, func(s *client.IntentSpec) { s.ID = id })
		require.Equal(t, id, i.ID)
		l := claim(t, h.Client, id, "w", time.Minute)
		_, err := h.Client.Intents().Complete(t.Context(), id, client.End{By: "w", Token: l.Token, Result: fmt.Sprint(n)})
		require.NoError(t, err)
		cp := brokertest.Ask(t, h.Client, func(q *client.CheckpointRequest) { q.ID = id })
		_, err = h.Client.Checkpoints().Approve(t.Context(), cp.ID, client.Approval{By: "ann", Option: "yes"})
		require.NoError(t, err)
	}
	resume, err := h.Client.Resume(t.Context())
	require.NoError(t, err)
	require.Empty(t, resume.PendingCheckpoints)
	require.Empty(t, resume.ActiveIntents)
}
