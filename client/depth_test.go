package client_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

func nested(n int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
}

func object(v json.RawMessage) json.RawMessage { return json.RawMessage(`{"a":` + string(v) + `}`) }

// MaxDepth holds for each way into the Log: at the limit it is stored, and read; one level
// more, nothing is.
func TestMaxDepth(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t).Client
	ctx := t.Context()
	cp, err := c.Checkpoints().Request(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "a", DecisionPoint: "?"})
	require.NoError(t, err)
	dated := func(e event.Event) event.Event {
		e.ID, e.CorrelationID, e.Timestamp = event.NewID(), "c", time.UnixMilli(1)
		return e
	}
	const top = event.MaxDepth - 1 // in the event's object
	for _, way := range []struct {
		name   string
		levels int
		do     func(json.RawMessage) error
	}{
		{"append", top, func(v json.RawMessage) error { _, err := c.Append(ctx, newEvent(string(v))); return err }},
		{"metadata", top - 1, func(v json.RawMessage) error {
			e := newEvent("1")
			e.Metadata = object(v)
			_, err := c.Append(ctx, e)
			return err
		}},
		{"extra", top, func(v json.RawMessage) error {
			e := newEvent("1")
			e.Extra = []event.Field{{Name: "x", Value: v}}
			_, err := c.Append(ctx, e)
			return err
		}},
		{"batch", top, func(v json.RawMessage) error {
			_, err := c.AppendBatch(ctx, []event.Event{newEvent("1"), newEvent(string(v))})
			return err
		}},
		{"behind a guard", top, func(v json.RawMessage) error {
			_, _, err := c.AppendGuarded(ctx, client.Guard{Name: event.NewID()}, newEvent(string(v)))
			return err
		}},
		{"a guard's data", top, func(v json.RawMessage) error {
			_, _, err := c.AppendGuarded(ctx, client.Guard{Name: event.NewID(), Data: v})
			return err
		}},
		{"action", top - 1, func(v json.RawMessage) error {
			_, err := c.Checkpoints().Request(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "a", DecisionPoint: "?", Action: v})
			return err
		}},
		{"schema", top - 2, func(v json.RawMessage) error {
			_, err := c.Checkpoints().Request(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "a", DecisionPoint: "?", Schema: json.RawMessage(`{"const":` + string(v) + `}`)})
			return err
		}},
		{"answer", top - 1, func(v json.RawMessage) error {
			_, err := c.Checkpoints().Approve(ctx, cp.ID, client.Approval{By: "h", Answer: v})
			return err
		}},
		{"import", top, func(v json.RawMessage) error {
			r, err := c.Admin().Import(ctx, "x", []event.Event{dated(newEvent(string(v)))}, nil)
			if err == nil && len(r.Refused) > 0 {
				err = r.Refused[0].Err
			}
			return err
		}},
	} {
		for _, levels := range []int{way.levels + 1, 10_000} {
			before := position(t, c)
			err := way.do(nested(levels))
			var invalid *event.InvalidError
			require.ErrorAs(t, err, &invalid, way.name)
			require.Contains(t, invalid.Rule, "levels deep", way.name)
			if way.name != "import" { // which moves its guard for the rest
				require.Equal(t, before, position(t, c), way.name)
			}
		}
		require.NoError(t, way.do(nested(way.levels)), way.name)
	}
	n := 0
	for _, err := range c.Query(ctx, event.Filter{}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 11, n)
	list, err := c.Checkpoints().List(ctx, false)
	require.NoError(t, err)
	require.Len(t, list, 3)
}

// Events from before the limit are read as ever, also by folds, in an answer to another
// question about them, and behind their guards.
func TestDeepEventsFromBeforeTheLimit(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	deep := event.Recorded{Event: newEvent(string(nested(10_000)))}
	deep.ID, deep.CorrelationID, deep.Timestamp = "deep", "c", time.UnixMilli(1)
	store(t, h, deep)
	asked := deep
	asked.ID, asked.Type = "asked", event.CheckpointRequested
	asked.Payload = json.RawMessage(`{"id":"cp_deep","decision_point":"?","requested_by":"a","options":[],"action":` + string(nested(9_999)) + `}`)
	store(t, h, asked)

	got := query(t, c, event.Filter{})
	require.Len(t, got, 2)
	require.Equal(t, string(deep.Payload), string(got[0].Payload))
	cp, err := c.Checkpoints().Get(t.Context(), "cp_deep")
	require.NoError(t, err)
	list, err := c.Checkpoints().List(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, cp, list[0])
	cp, err = c.Checkpoints().Approve(t.Context(), "cp_deep", client.Approval{By: "h"})
	require.NoError(t, err)
	require.True(t, client.VerifyAction(cp, nested(9_999)))
	require.Zero(t, c.Admin().SetAside())
}

// store publishes an event as an earlier version did, behind its guard if it has one.
func store(t *testing.T, h *brokertest.Host, r event.Recorded) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	if subject, body, ok := wire.Protected(r.Event); ok {
		r.Guard = subject
		_, err = js.PublishMsg(ctx, wire.EncodeGuard(subject, body.Encode()))
		require.NoError(t, err)
	}
	_, err = js.PublishMsg(ctx, wire.Encode(r))
	require.NoError(t, err)
}
