package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestGuardSubject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{event.GuardRequest, event.GuardCheckpoint, event.GuardIntent, event.GuardImport,
			event.GuardBarrier, event.GuardUser, event.GuardVoid}).Draw(t, "kind")
		id := genStream().Draw(t, "id")
		subject := wire.GuardSubject(kind, id)
		require.True(t, acceptable(subject), "%q", subject)
		require.True(t, wire.IsGuard(subject))
		gotKind, gotID, ok := wire.ParseGuardSubject(subject)
		require.True(t, ok)
		require.Equal(t, kind, gotKind)
		require.Equal(t, id, gotID)
	})
	for _, s := range []string{"", "guards", "guards.", "guards.user", "guards.user.", "guards.user.a.b", "guards.user.%2e", "events.user.x"} {
		_, _, ok := wire.ParseGuardSubject(s)
		require.False(t, ok, "%q", s)
	}
	require.False(t, wire.IsGuard("guardsx.user.x"))
	require.False(t, wire.IsGuard("events.guards.x"))
}

// Every known type: those that are guarded, behind which guard, and in what state.
func TestProtected(t *testing.T) {
	guarded := map[string]struct{ subject, state string }{
		event.CheckpointRequested:   {"guards.request.own", ""},
		event.CheckpointApproved:    {"guards.checkpoint.cp%2E1", ""},
		event.CheckpointRejected:    {"guards.checkpoint.cp%2E1", ""},
		event.CheckpointExpired:     {"guards.checkpoint.cp%2E1", ""},
		event.CheckpointCancelled:   {"guards.checkpoint.cp%2E1", ""},
		event.CheckpointGuardVoided: {"guards.checkpoint.cp%2E1", ""},
		event.AgentSpawned:          {"guards.intent.own", event.StateCreated},
		event.AgentCompleted:        {"guards.intent.in_1", event.StateEnded},
		event.AgentFailed:           {"guards.intent.in_1", event.StateEnded},
		event.AgentAborted:          {"guards.intent.in_1", event.StateEnded},
	}
	payload := json.RawMessage(`{"id":"own","checkpoint_id":"cp.1","intent_id":"in_1","result":"x"}`)
	types := []string{"my.own.type"}
	for _, k := range event.Catalogue() {
		types = append(types, k.Type)
	}
	for _, typ := range types {
		e := event.Event{ID: "e1", Type: typ, Payload: payload}
		subject, body, ok := wire.Protected(e)
		want, is := guarded[typ]
		require.Equal(t, is, ok, typ)
		require.Equal(t, want.subject, subject, typ)
		if is {
			require.Equal(t, wire.GuardBody{Event: "e1", Type: typ, State: want.state}, body)
		}
		delete(guarded, typ)
	}
	require.Empty(t, guarded)
}

// A payload that names nothing stands behind no guard.
func TestProtectedNeedsAName(t *testing.T) {
	for _, payload := range []string{`{}`, `null`, `[]`, `"cp_1"`, `7`, `{"checkpoint_id":""}`, `{"checkpoint_id":5}`,
		`{"checkpoint_id":null}`, `{"Checkpoint_ID":"cp_1"}`, `{"id":"cp_1"}`} {
		_, _, ok := wire.Protected(event.Event{ID: "e1", Type: event.CheckpointApproved, Payload: json.RawMessage(payload)})
		require.False(t, ok, payload)
	}
}

func TestGuardBody(t *testing.T) {
	require.Equal(t, `{}`, string(wire.GuardBody{}.Encode()))
	b := wire.GuardBody{Event: "e<1>\u2028", Type: "agent.spawned", State: event.StateCreated}
	var back wire.GuardBody
	require.NoError(t, json.Unmarshal(b.Encode(), &back))
	require.Equal(t, b, back)
}
