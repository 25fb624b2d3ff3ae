package client_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// wrapping are milliseconds that are negative or short as a time.Duration.
var wrapping = []int64{9_223_372_036_855, 18_446_744_073_710, 1 << 53, math.MaxInt64}

// A time in a payload that no clock can hold is refused, by its field and value.
func TestTimesInPayloads(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t).Client
	refused := func(typ, payload, field, value string) {
		e := newEvent(payload)
		e.Type = typ
		_, err := c.Append(t.Context(), e)
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
		require.Equal(t, value, invalid.Value)
	}
	for _, ms := range append([]int64{-1}, wrapping...) {
		refused(event.AgentSpawned, fmt.Sprintf(`{"id":"i","timeout_ms":%d}`, ms), "payload.timeout_ms", fmt.Sprint(ms))
	}
	refused(event.CheckpointRequested, `{"id":"cp","decision_point":"?","expires_at":-1}`, "payload.expires_at", "-1")
	require.Zero(t, position(t, c))

	i, err := c.Intents().Create(t.Context(), client.IntentSpec{StreamID: "s", Actor: "a", Timeout: math.MaxInt64})
	require.NoError(t, err)
	require.False(t, i.PastDue(time.Now()))
	l, err := c.Intents().Claim(t.Context(), i.ID, "w", math.MaxInt64)
	require.NoError(t, err)
	require.Greater(t, time.Until(l.Until), time.Hour)
	i, err = c.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.True(t, i.Held(time.Now()))
	cp, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{StreamID: "s", RequestedBy: "a", DecisionPoint: "?", ExpiresIn: math.MaxInt64})
	require.NoError(t, err)
	require.False(t, cp.PastDue(time.Now()))
}

// What is stored already with such a time is far away, and never at once.
func TestStoredTimesSaturate(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	for n, ms := range wrapping {
		id := fmt.Sprint("i", n)
		e := newEvent(fmt.Sprintf(`{"id":%q,"timeout_ms":%d,"created_at":%d}`, id, ms, int64(math.MaxInt64)))
		e.ID, e.CorrelationID, e.Type, e.Timestamp = id+".e", "c", event.AgentSpawned, time.UnixMilli(1)
		store(t, h, event.Recorded{Event: e})
		_, err = js.PublishMsg(t.Context(), wire.EncodeGuard(wire.GuardSubject(event.GuardIntent, id), wire.GuardBody{State: event.StateClaimed, Holder: "w", Lease: ms}.Encode()))
		require.NoError(t, err)
		i, err := h.Client.Intents().Get(t.Context(), id)
		require.NoError(t, err)
		require.True(t, i.Held(time.Now()), "%d ms", ms)
		require.False(t, i.PastDue(time.Now()), "%d ms", ms)
		_, err = h.Client.Intents().Claim(t.Context(), id, "other", time.Minute)
		require.ErrorIs(t, err, client.ErrHeld)
	}
	i := projection.Intent{Stored: time.Now(), Status: projection.Pending}
	i.TimeoutMS = math.MaxInt64
	require.False(t, i.PastDue(time.Now()))
	i.Imported, i.CreatedAt = true, event.Milli(math.MaxInt64)
	require.False(t, i.PastDue(time.Now()))
}
