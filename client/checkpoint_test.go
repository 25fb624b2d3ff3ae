package client_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// overdue creates a checkpoint whose time has passed, and that nobody has expired.
func overdue(t *testing.T, c *client.Client) projection.Checkpoint {
	t.Helper()
	cp := brokertest.Ask(t, c, func(q *client.CheckpointRequest) { q.ExpiresIn = time.Millisecond })
	require.Eventually(t, func() bool { return cp.PastDue(time.Now()) }, time.Second, time.Millisecond)
	return cp
}

// payload encodes a payload.
func payload(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// publishRaw stores an event as any NATS client could, without a guard.
func publishRaw(t *testing.T, h *brokertest.Host, e event.Event) event.Sequence {
	t.Helper()
	if e.ID == "" {
		e.ID = event.NewID()
	}
	e.Timestamp, e.CorrelationID = event.Now(), "raw"
	ack, err := h.Admin(t).PublishMsg(t.Context(), wire.Encode(event.Recorded{Event: e}))
	require.NoError(t, err)
	return event.Sequence(ack.Sequence)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for name, change := range map[string]func(*client.CheckpointRequest){
		"no question":        func(q *client.CheckpointRequest) { q.DecisionPoint = "" },
		"no stream":          func(q *client.CheckpointRequest) { q.StreamID = "" },
		"nobody asks":        func(q *client.CheckpointRequest) { q.RequestedBy = "" },
		"an option twice":    func(q *client.CheckpointRequest) { q.Options = []event.Option{{ID: "a"}, {ID: "a"}} },
		"an option unnamed":  func(q *client.CheckpointRequest) { q.Options = []event.Option{{Label: "a"}} },
		"schema is no JSON":  func(q *client.CheckpointRequest) { q.Schema = json.RawMessage(`{`) },
		"schema is none":     func(q *client.CheckpointRequest) { q.Schema = json.RawMessage(`{"type":"nonsense"}`) },
		"schema elsewhere":   func(q *client.CheckpointRequest) { q.Schema = json.RawMessage(`{"$ref":"http://x.example/s"}`) },
		"schema in a file":   func(q *client.CheckpointRequest) { q.Schema = json.RawMessage(`{"$ref":"file:///etc/passwd"}`) },
		"expires before now": func(q *client.CheckpointRequest) { q.ExpiresIn = -1 },
		"action is no JSON":  func(q *client.CheckpointRequest) { q.Action = json.RawMessage(`{a}`) },
		"action is ambiguous": func(q *client.CheckpointRequest) {
			q.Action = json.RawMessage(`{"a":1,"a":2}`)
		},
		"id too long": func(q *client.CheckpointRequest) { q.ID = string(make([]byte, 300)) },
	} {
		q := client.CheckpointRequest{StreamID: "ses", RequestedBy: "agent", DecisionPoint: "?"}
		change(&q)
		_, err := h.Client.Checkpoints().Request(t.Context(), q)
		require.Error(t, err, name)
		var invalid *event.InvalidError
		if name != "schema is no JSON" && name != "action is no JSON" {
			require.ErrorAs(t, err, &invalid, name)
		}
	}
	for _, p := range []string{`{}`, `[]`, `{"id":"x"}`, `{"id":7,"decision_point":"?"}`, `{"id":"x","decision_point":"?","action":{},"action_hash":"00"}`} {
		for _, events := range [][]event.Event{
			{{Type: event.CheckpointRequested, StreamID: "s", Actor: "a", Payload: json.RawMessage(p)}},
			{newEvent("1"), {Type: event.CheckpointRequested, StreamID: "s", Actor: "a", Payload: json.RawMessage(p)}},
		} {
			_, err := h.Client.AppendBatch(t.Context(), events)
			var invalid *event.InvalidError
			require.ErrorAs(t, err, &invalid, p)
		}
	}
	require.Zero(t, position(t, h.Client))
}

func TestAskAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	about := func(action string) func(*client.CheckpointRequest) {
		return func(q *client.CheckpointRequest) { q.ID, q.Action = "cp", json.RawMessage(action) }
	}
	first := brokertest.Ask(t, h.Client, about(`{"run":"rm","args":[1]}`))
	before := position(t, h.Client)
	again := brokertest.Ask(t, h.NewClient(t, client.Config{}), about(`{ "args":[1], "run":"rm" }`), func(q *client.CheckpointRequest) { q.DecisionPoint = "other words" })
	require.Equal(t, first, again)
	require.Equal(t, before, position(t, h.Client))

	other := client.CheckpointRequest{ID: "cp", StreamID: "ses", RequestedBy: "agent", DecisionPoint: "?", Action: json.RawMessage(`{"run":"rm","args":[2]}`)}
	a := attempt{
		func(ctx context.Context, c *client.Client) error {
			_, err := c.Checkpoints().Request(ctx, other)
			return err
		},
		event.Event{Type: event.CheckpointRequested, StreamID: "ses", Actor: "agent", Payload: json.RawMessage(`{"id":"cp","decision_point":"?","requested_by":"agent","action":{"run":"rm","args":[2]}}`)},
	}
	for name, way := range everyWay {
		err := way(t.Context(), h.Client, a)
		var conflict *client.ConflictError
		require.ErrorAs(t, err, &conflict, name)
		require.ErrorContains(t, err, "another action", name)
		require.Equal(t, first.Seq, conflict.Winner.Seq, name)
		require.Equal(t, before, position(t, h.Client), name)
	}

	// It asks again after the answer, and finds it.
	_, err := h.Client.Checkpoints().Reject(t.Context(), "cp", client.Rejection{By: "ann", Reason: "no"})
	require.NoError(t, err)
	again = brokertest.Ask(t, h.Client, about(`{"run":"rm","args":[1]}`))
	require.Equal(t, projection.Rejected, again.Status)
}

func TestAskAtOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	got := make([]projection.Checkpoint, 20)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			cp, err := h.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{ID: "cp", StreamID: "ses", RequestedBy: "agent", DecisionPoint: "deploy?"})
			if err != nil {
				t.Error(err)
			}
			got[i] = cp
		})
	}
	wg.Wait()
	for _, cp := range got {
		require.Equal(t, got[0], cp)
	}
	require.Len(t, query(t, h.Client, event.Filter{}), 1)
}

func TestManyWaitForOneAnswer(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for range 5 {
		cp := brokertest.Ask(t, h.Client)
		type answer struct {
			cp  projection.Checkpoint
			err error
		}
		answers := make(chan answer)
		for i := range 20 {
			c := h.Client
			if i%5 == 0 {
				c = h.NewClient(t, client.Config{})
			}
			go func() {
				got, err := c.Checkpoints().Wait(within(t, 30*time.Second), cp.ID)
				answers <- answer{got, err}
			}()
		}
		decided, err := h.Client.Checkpoints().Approve(t.Context(), cp.ID, client.Approval{By: "ann", Option: "yes"})
		require.NoError(t, err)
		for range 20 {
			got := <-answers
			require.NoError(t, got.err)
			require.Equal(t, decided, got.cp)
		}
		again, err := h.Client.Checkpoints().Wait(t.Context(), cp.ID)
		require.NoError(t, err)
		require.Equal(t, decided, again)
	}
	_, err := h.Client.Checkpoints().Wait(t.Context(), "nobody asked")
	require.ErrorIs(t, err, client.ErrUnknownCheckpoint)
	_, err = h.Client.Checkpoints().Wait(within(t, 20*time.Millisecond), brokertest.Ask(t, h.Client).ID)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestWaitAcrossARestart(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	waiter := h.NewClient(t, client.Config{})
	got := make(chan projection.Checkpoint)
	go func() {
		now, err := waiter.Checkpoints().Wait(within(t, 30*time.Second), cp.ID)
		if err != nil {
			t.Error(err)
		}
		got <- now
	}()
	h.Restart(t)
	decided, err := h.Client.Checkpoints().Reject(within(t, 30*time.Second), cp.ID, client.Rejection{By: "ann", Reason: "no"})
	require.NoError(t, err)
	require.Equal(t, decided, <-got)
}

// The asker cannot cancel: its call asks the sweeper to cancel.
func TestCancelOfOnesOwn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	cancelled, err := h.Client.Checkpoints().Cancel(t.Context(), brokertest.Ask(t, h.Client).ID, client.Cancellation{By: "ann", Reason: "not needed"})
	require.NoError(t, err)
	require.Equal(t, projection.Cancelled, cancelled.Status)
	require.Equal(t, "not needed", cancelled.Decision.Reason)

	done := make(chan error)
	go func() {
		_, err := h.Client.Checkpoints().Cancel(within(t, 30*time.Second), cp.ID, client.Cancellation{By: "agent", Reason: "changed my mind"})
		done <- err
	}()
	var asked projection.Checkpoint
	require.Eventually(t, func() bool {
		pending, err := h.Client.Checkpoints().List(t.Context(), true)
		require.NoError(t, err)
		asked = pending[0]
		return asked.CancelRequested
	}, 5*time.Second, time.Millisecond)
	require.Equal(t, "agent", asked.CancelBy)
	require.Equal(t, "changed my mind", asked.CancelReason)
	_, err = h.Client.Deadlines().Cancel(t.Context(), asked, asked.CancelReason) // as the sweeper does
	require.NoError(t, err)
	require.NoError(t, <-done)
	_, err = h.Client.Checkpoints().Cancel(t.Context(), cp.ID, client.Cancellation{By: "agent", Reason: "again"})
	require.ErrorIs(t, err, client.ErrCancelled)
}
