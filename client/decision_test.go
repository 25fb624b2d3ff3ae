package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// attempt is one change that somebody wants, by the call made for it and as an event.
type attempt struct {
	call  func(ctx context.Context, c *client.Client) error
	event event.Event
}

// everyWay makes an attempt by each way there is.
var everyWay = map[string]func(context.Context, *client.Client, attempt) error{
	"by its call": func(ctx context.Context, c *client.Client, a attempt) error { return a.call(ctx, c) },
	"through Append": func(ctx context.Context, c *client.Client, a attempt) error {
		_, err := c.Append(ctx, a.event)
		return err
	},
	"in a batch": func(ctx context.Context, c *client.Client, a attempt) error {
		_, err := c.AppendBatch(ctx, []event.Event{newEvent(`"before"`), a.event, newEvent(`"after"`)})
		return err
	},
}

func approval(t *testing.T, id string, a client.Approval) attempt {
	t.Helper()
	return attempt{
		func(ctx context.Context, c *client.Client) error {
			_, err := c.Checkpoints().Approve(ctx, id, a)
			return err
		},
		event.Event{Type: event.CheckpointApproved, StreamID: "ses", Actor: a.By, Payload: payload(t, event.Approved{
			CheckpointID: id, ApprovedBy: a.By, SelectedOption: a.Option, Answer: a.Answer, Comment: a.Comment})},
	}
}

func rejection(t *testing.T, id, by string) attempt {
	t.Helper()
	return attempt{
		func(ctx context.Context, c *client.Client) error {
			_, err := c.Checkpoints().Reject(ctx, id, client.Rejection{By: by, Reason: "r"})
			return err
		},
		event.Event{Type: event.CheckpointRejected, StreamID: "ses", Actor: by, Payload: payload(t, event.Rejected{
			CheckpointID: id, RejectedBy: by, Reason: "r"})},
	}
}

func TestDecisionsAreRefused(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	schema := func(q *client.CheckpointRequest) {
		q.Options, q.Schema = nil, json.RawMessage(`{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":1}}}`)
	}
	decided := func(status projection.Status, by string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			t.Helper()
			var d *client.DecidedError
			require.ErrorAs(t, err, &d)
			require.Equal(t, status, d.Checkpoint.Status)
			require.NotNil(t, d.Checkpoint.Decision)
			require.Equal(t, status, d.Checkpoint.Decision.Status)
			require.Equal(t, by, d.Checkpoint.Decision.By)
			require.NotZero(t, d.Checkpoint.Decision.Seq)
			require.ErrorContains(t, err, by)
		}
	}
	for _, tc := range []struct {
		name  string
		setup func(*testing.T) string
		try   func(*testing.T, string) attempt
		is    error
		also  func(*testing.T, error)
	}{
		{"unknown checkpoint", func(*testing.T) string { return "nobody asked" },
			func(t *testing.T, id string) attempt { return rejection(t, id, "ann") }, client.ErrUnknownCheckpoint, nil},
		{"unknown option", func(t *testing.T) string { return brokertest.Ask(t, c).ID },
			func(t *testing.T, id string) attempt {
				return approval(t, id, client.Approval{By: "ann", Option: "maybe"})
			}, client.ErrUnknownOption,
			func(t *testing.T, err error) {
				require.ErrorContains(t, err, `"maybe"`)
				require.ErrorContains(t, err, "it has yes, no")
			}},
		{"no option", func(t *testing.T) string { return brokertest.Ask(t, c).ID },
			func(t *testing.T, id string) attempt { return approval(t, id, client.Approval{By: "ann"}) }, client.ErrUnknownOption, nil},
		{"an option where there are none", func(t *testing.T) string { return brokertest.Ask(t, c, schema).ID },
			func(t *testing.T, id string) attempt {
				return approval(t, id, client.Approval{By: "ann", Option: "yes", Answer: json.RawMessage(`{"n":1}`)})
			}, client.ErrUnknownOption, nil},
		{"an answer that breaks the schema", func(t *testing.T) string { return brokertest.Ask(t, c, schema).ID },
			func(t *testing.T, id string) attempt {
				return approval(t, id, client.Approval{By: "ann", Answer: json.RawMessage(`{"n":0}`)})
			}, client.ErrAnswer, nil},
		{"no answer", func(t *testing.T) string { return brokertest.Ask(t, c, schema).ID },
			func(t *testing.T, id string) attempt { return approval(t, id, client.Approval{By: "ann"}) }, client.ErrAnswer, nil},
		{"own, approved", func(t *testing.T) string { return brokertest.Ask(t, c).ID },
			func(t *testing.T, id string) attempt {
				return approval(t, id, client.Approval{By: "agent", Option: "yes"})
			}, client.ErrOwnCheckpoint, nil},
		{"own, rejected", func(t *testing.T) string { return brokertest.Ask(t, c).ID },
			func(t *testing.T, id string) attempt { return rejection(t, id, "agent") }, client.ErrOwnCheckpoint, nil},
		{"approved before", func(t *testing.T) string {
			id := brokertest.Ask(t, c).ID
			_, err := c.Checkpoints().Approve(t.Context(), id, client.Approval{By: "bob", Option: "yes"})
			require.NoError(t, err)
			return id
		}, func(t *testing.T, id string) attempt { return rejection(t, id, "ann") }, client.ErrDecided, decided(projection.Approved, "bob")},
		{"rejected before", func(t *testing.T) string {
			id := brokertest.Ask(t, c).ID
			_, err := c.Checkpoints().Reject(t.Context(), id, client.Rejection{By: "bob", Reason: ""})
			require.NoError(t, err)
			return id
		}, func(t *testing.T, id string) attempt {
			return approval(t, id, client.Approval{By: "ann", Option: "yes"})
		}, client.ErrDecided, decided(projection.Rejected, "bob")},
		{"cancelled before", func(t *testing.T) string {
			id := brokertest.Ask(t, c).ID
			_, err := c.Checkpoints().Cancel(t.Context(), id, client.Cancellation{By: "bob", Reason: "never mind"})
			require.NoError(t, err)
			return id
		}, func(t *testing.T, id string) attempt {
			return approval(t, id, client.Approval{By: "ann", Option: "yes"})
		}, client.ErrCancelled, decided(projection.Cancelled, "bob")},
		{"expired before", func(t *testing.T) string {
			cp := overdue(t, c)
			_, err := c.Deadlines().Expire(t.Context(), cp)
			require.NoError(t, err)
			return cp.ID
		}, func(t *testing.T, id string) attempt {
			return approval(t, id, client.Approval{By: "ann", Option: "yes"})
		}, client.ErrExpired, decided(projection.Expired, client.SweeperActor)},
		{"expired, and no sweeper came by", func(t *testing.T) string { return overdue(t, c).ID },
			func(t *testing.T, id string) attempt {
				return approval(t, id, client.Approval{By: "ann", Option: "yes"})
			}, client.ErrExpired, decided(projection.Expired, client.SweeperActor)},
		{"expired too early", func(t *testing.T) string { return brokertest.Ask(t, c).ID },
			func(t *testing.T, id string) attempt {
				return attempt{func(ctx context.Context, c *client.Client) error {
					_, err := c.Deadlines().Expire(ctx, projection.Checkpoint{Checkpoint: event.Checkpoint{ID: id}})
					return err
				}, event.Event{Type: event.CheckpointExpired, StreamID: "ses", Actor: "ann", Payload: payload(t, event.Expired{CheckpointID: id})}}
			}, client.ErrNotDue, nil},
	} {
		for name, way := range everyWay {
			t.Run(tc.name+", "+name, func(t *testing.T) {
				t.Parallel()
				id := tc.setup(t)
				err := way(t.Context(), c, tc.try(t, id))
				require.ErrorIs(t, err, tc.is)
				if tc.also != nil {
					tc.also(t, err)
				}
				require.Empty(t, decisionsOf(t, c, id, "ann"), "nothing of it was stored")
			})
		}
	}
}

// decisionsOf are the decision events about a checkpoint that one actor wrote.
func decisionsOf(t *testing.T, c *client.Client, id, actor string) (out []event.Recorded) {
	t.Helper()
	for _, r := range query(t, c, event.Filter{Types: []string{"checkpoint.*"}}) {
		if of, _, err := projection.NewDecision(r); err == nil && of == id && (actor == "" || r.Actor == actor) {
			out = append(out, r)
		}
	}
	return out
}

// A batch whose decision is refused stores nothing of the rest either, and one whose
// decision is taken stores all.
func TestDecisionInABatch(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	yes := approval(t, cp.ID, client.Approval{By: "ann", Option: "yes"}).event
	for _, bad := range [][]event.Event{
		{newEvent("1"), rejection(t, cp.ID, "agent").event},
		{yes, rejection(t, cp.ID, "bob").event}, // two decisions of one checkpoint
		{yes, yes},
	} {
		before := position(t, h.Client)
		_, err := h.Client.AppendBatch(t.Context(), bad)
		require.Error(t, err)
		require.Equal(t, before, position(t, h.Client))
	}
	rs, err := h.Client.AppendBatch(t.Context(), []event.Event{newEvent("1"), yes, newEvent("2")})
	require.NoError(t, err)
	require.Len(t, rs, 3)
	require.Equal(t, rs[1].Seq+1, rs[2].Seq)
	require.Equal(t, rs[0].Seq+2, rs[1].Seq, "the guard is before it")
	now, err := h.Client.Checkpoints().Get(t.Context(), cp.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Approved, now.Status)
	require.Equal(t, rs[1].Seq, now.Decision.Seq)
}

// A decision handed over again under its id is the same decision, also long after.
func TestSameDecisionAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	e := approval(t, cp.ID, client.Approval{By: "ann", Option: "yes"}).event
	e.ID = event.NewID()
	first, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	var p event.Approved
	require.NoError(t, json.Unmarshal(first.Payload, &p))
	require.Equal(t, cp.Seq, p.RequestSeq, "it says which request it answers")
	before := position(t, h.Client)
	again, err := h.Client.Append(t.Context(), first.Event)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, before, position(t, h.Client))

	wrong := approval(t, brokertest.Ask(t, h.Client).ID, client.Approval{By: "ann", Option: "yes"}).event
	wrong.Payload = json.RawMessage(`{"request_seq":1,` + string(wrong.Payload[1:]))
	_, err = h.Client.Append(t.Context(), wrong)
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "payload.request_seq", invalid.Field)
}

// The same decision, appended as it was given and not as it was recorded.
func TestSameDecisionAgainAsGiven(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	e := approval(t, brokertest.Ask(t, h.Client).ID, client.Approval{By: "ann", Option: "yes"}).event
	e.ID = event.NewID()
	first, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	again, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestAnswersThatAreTaken(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	schema := json.RawMessage(`{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}`)
	for name, tc := range map[string]struct {
		ask func(*client.CheckpointRequest)
		a   client.Approval
	}{
		"an option":                      {func(*client.CheckpointRequest) {}, client.Approval{Option: "no", Comment: "<é> & more"}},
		"no option where there are none": {func(q *client.CheckpointRequest) { q.Options = nil }, client.Approval{}},
		"any answer where there is no schema": {func(q *client.CheckpointRequest) { q.Options = nil },
			client.Approval{Answer: json.RawMessage(`{"z":1.0,"a":10000000000000000001}`)}},
		"an answer instead of an option": {func(q *client.CheckpointRequest) { q.Schema = schema }, client.Approval{Answer: json.RawMessage(`{"n":1}`)}},
		"an option instead of an answer": {func(q *client.CheckpointRequest) { q.Schema = schema }, client.Approval{Option: "yes"}},
		"both":                           {func(q *client.CheckpointRequest) { q.Schema = schema }, client.Approval{Option: "yes", Answer: json.RawMessage(`{"n":2}`)}},
	} {
		tc.a.By = "ann"
		cp, err := c.Checkpoints().Approve(t.Context(), brokertest.Ask(t, c, tc.ask).ID, tc.a)
		require.NoError(t, err, name)
		read, err := c.Checkpoints().Get(t.Context(), cp.ID)
		require.NoError(t, err, name)
		require.Equal(t, cp, read, name)
		require.Equal(t, "ann", read.Decision.By, name)
		require.Equal(t, tc.a.Option, read.Decision.Option, name)
		require.Equal(t, string(tc.a.Answer), string(read.Decision.Answer), name)
		require.Equal(t, tc.a.Comment, read.Decision.Comment, name)
	}
	list, err := c.Checkpoints().List(t.Context(), true)
	require.NoError(t, err)
	require.Empty(t, list)
	list, err = c.Checkpoints().List(t.Context(), false)
	require.NoError(t, err)
	require.Len(t, list, 6)
}

// Whatever is published round the guard changes nothing, for any reader.
func TestDecisionByHandChangesNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	publishRaw(t, h, approval(t, cp.ID, client.Approval{By: "eve", Option: "yes"}).event)
	forged := approval(t, cp.ID, client.Approval{By: "eve", Option: "yes"}).event
	forged.ID = event.NewID()
	r := event.Recorded{Event: forged, Guard: wire.GuardSubject(event.GuardCheckpoint, cp.ID)} // it only says so
	r.Timestamp, r.CorrelationID = event.Now(), "raw"
	_, err := h.Admin(t).PublishMsg(t.Context(), wire.Encode(r))
	require.NoError(t, err)

	pending := func() {
		now, err := h.Client.Checkpoints().Get(t.Context(), cp.ID)
		require.NoError(t, err)
		require.Equal(t, projection.Pending, now.Status)
		resume, err := h.Client.Resume(t.Context())
		require.NoError(t, err)
		require.Len(t, resume.PendingCheckpoints, 1)
	}
	pending()
	_, err = h.Client.Checkpoints().Reject(t.Context(), cp.ID, client.Rejection{By: "ann", Reason: "no"})
	require.NoError(t, err)
	now, err := h.Client.Checkpoints().List(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, projection.Rejected, now[0].Status)
}

// The client refuses a payload that readers would assign to different checkpoints: the
// rules would check one checkpoint, and the append would write the guard of another.
func TestAmbiguousDecision(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	mine, others := brokertest.Ask(t, h.Client), brokertest.Ask(t, h.Client, func(q *client.CheckpointRequest) { q.RequestedBy = "ann" })
	for _, p := range []string{
		fmt.Sprintf(`{"checkpoint_id":%q,"Checkpoint_ID":%q,"approved_by":"agent","selected_option":"yes"}`, mine.ID, others.ID),
		fmt.Sprintf(`{"CHECKPOINT_ID":%q,"approved_by":"bob","selected_option":"yes"}`, mine.ID),
		`{"approved_by":"bob","selected_option":"yes"}`,
		`{"checkpoint_id":"","approved_by":"bob"}`,
		`{"checkpoint_id":7}`,
		`[]`,
	} {
		for _, filler := range [][]event.Event{nil, {newEvent("1")}} {
			before := position(t, h.Client)
			_, err := h.Client.AppendBatch(within(t, 5*time.Second), append(filler, event.Event{Type: event.CheckpointApproved, StreamID: "ses", Actor: "agent", Payload: json.RawMessage(p)}))
			var invalid *event.InvalidError
			require.ErrorAs(t, err, &invalid, p)
			require.Equal(t, before, position(t, h.Client), p)
		}
	}
	_, err := h.Client.Checkpoints().Approve(t.Context(), mine.ID, client.Approval{By: "bob", Option: "yes"})
	require.NoError(t, err)
	_, err = h.Client.Append(within(t, 5*time.Second), event.Event{Type: event.CheckpointRequested, StreamID: "ses", Actor: "agent",
		Payload: json.RawMessage(`{"id":"a","ID":"b","decision_point":"?"}`)})
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
}

func TestApprovalIsForOneAction(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client, func(q *client.CheckpointRequest) { q.Action = json.RawMessage(`{"b":1,"a":"x"}`) })
	require.False(t, client.VerifyAction(cp, json.RawMessage(`{"b":1,"a":"x"}`)), "not approved yet")
	decided, err := h.Client.Checkpoints().Approve(t.Context(), cp.ID, client.Approval{By: "ann", Option: "yes"})
	require.NoError(t, err)
	require.True(t, client.VerifyAction(decided, json.RawMessage(` {"a":"x", "b":1}`)))
	for _, other := range []string{`{"b":2,"a":"x"}`, `{"b":1.0,"a":"x"}`, `{"a":"x"}`, `{"a":"x","b":1,"c":null}`, `{`, ``, `null`} {
		require.False(t, client.VerifyAction(decided, json.RawMessage(other)), other)
	}
	bare := brokertest.Ask(t, h.Client)
	bare, err = h.Client.Checkpoints().Approve(t.Context(), bare.ID, client.Approval{By: "ann", Option: "yes"})
	require.NoError(t, err)
	require.False(t, client.VerifyAction(bare, json.RawMessage(`{}`)), "an approval of no action is for none")
}
