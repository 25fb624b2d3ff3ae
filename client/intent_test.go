package client_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/projection"
)

func create(t *testing.T, c *client.Client, change ...func(*client.IntentSpec)) projection.Intent {
	t.Helper()
	s := client.IntentSpec{StreamID: "ses", Actor: "agent", Description: "build it"}
	for _, f := range change {
		f(&s)
	}
	i, err := c.Intents().Create(t.Context(), s)
	require.NoError(t, err)
	return i
}

func claim(t *testing.T, c *client.Client, id, holder string, length time.Duration) client.Lease {
	t.Helper()
	l, err := c.Intents().Claim(t.Context(), id, holder, length)
	require.NoError(t, err)
	return l
}

// takeOver claims until the lease that stands has run out.
func takeOver(t *testing.T, c *client.Client, id, holder string) client.Lease {
	t.Helper()
	var l client.Lease
	require.Eventually(t, func() bool {
		var err error
		l, err = c.Intents().Claim(t.Context(), id, holder, time.Minute)
		if err != nil {
			require.ErrorIs(t, err, client.ErrHeld)
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return l
}

// ending is the end of an intent, by its call and as an event.
func ending(t *testing.T, typ, id string, e client.End) attempt {
	t.Helper()
	return attempt{
		func(ctx context.Context, c *client.Client) error {
			_, err := map[string]func(context.Context, string, client.End) (projection.Intent, error){
				event.AgentCompleted: c.Intents().Complete, event.AgentFailed: c.Intents().Fail, event.AgentAborted: c.Intents().Abort,
			}[typ](ctx, id, e)
			return err
		},
		event.Event{Type: typ, StreamID: "ses", Actor: e.By, Payload: payload(t, event.IntentEnd{IntentID: id, Result: e.Result, Error: e.Error, Reason: e.Reason})},
	}
}

func TestIntentFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	i := create(t, c, func(s *client.IntentSpec) { s.Prompt, s.Agent, s.Timeout = "do <it>", "builder", time.Hour })
	require.Equal(t, projection.Pending, i.Status)
	require.Equal(t, "ses", i.ParentSessionID)
	require.EqualValues(t, time.Hour.Milliseconds(), i.TimeoutMS)

	l := claim(t, c, i.ID, "worker", time.Minute)
	require.Greater(t, l.Token, i.GuardSeq)
	now, err := c.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Running, now.Status)
	require.Equal(t, "worker", now.Holder)
	require.WithinDuration(t, l.Until, now.LeaseUntil.Time, 5*time.Second)

	renewed, err := c.Intents().Renew(t.Context(), l)
	require.NoError(t, err)
	require.Greater(t, renewed.Token, l.Token)
	_, err = c.Intents().Renew(t.Context(), l)
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict, "under the token before")
	require.Equal(t, renewed.Token, conflict.Seq)

	done, err := c.Intents().Complete(t.Context(), i.ID, client.End{By: "worker", Token: renewed.Token, Result: "built"})
	require.NoError(t, err)
	require.Equal(t, projection.Completed, done.Status)
	require.Equal(t, "built", done.Result)
	require.Equal(t, "worker", done.EndedBy)
	require.Zero(t, done.LeaseUntil)
	active, err := c.Intents().List(t.Context(), true)
	require.NoError(t, err)
	require.Empty(t, active)
	all, err := c.Intents().List(t.Context(), false)
	require.NoError(t, err)
	all[0].Stored, done.Stored = time.Time{}, time.Time{}
	require.Equal(t, []projection.Intent{done}, all)
}

func TestIntentErrors(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	for _, tc := range []struct {
		name  string
		setup func(*testing.T) string
		end   client.End
		is    error
	}{
		{"ended before", func(t *testing.T) string {
			i := create(t, c)
			_, err := c.Intents().Abort(t.Context(), i.ID, client.End{By: "ann"})
			require.NoError(t, err)
			return i.ID
		}, client.End{By: "worker"}, client.ErrIntentEnded},
		{"held by another", func(t *testing.T) string {
			i := create(t, c)
			claim(t, c, i.ID, "other", time.Minute)
			return i.ID
		}, client.End{By: "worker"}, client.ErrHeld},
	} {
		for name, way := range everyWay {
			for _, typ := range []string{event.AgentCompleted, event.AgentFailed} {
				t.Run(tc.name+", "+name+", "+typ, func(t *testing.T) {
					t.Parallel()
					id := tc.setup(t)
					before, err := c.Intents().Get(t.Context(), id)
					require.NoError(t, err)
					err = way(t.Context(), c, ending(t, typ, id, tc.end))
					require.ErrorIs(t, err, tc.is)
					now, err := c.Intents().Get(t.Context(), id)
					require.NoError(t, err)
					require.Equal(t, before, now)
				})
			}
		}
	}
}

func TestIntentErrorsCarryWhatStands(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	i := create(t, c)
	l := claim(t, c, i.ID, "first", time.Minute)
	_, err := c.Intents().Claim(t.Context(), i.ID, "second", time.Minute)
	var held *client.HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, "first", held.Intent.Holder)
	_, err = c.Intents().Claim(t.Context(), i.ID, "first", time.Minute)
	require.ErrorAs(t, err, &held, "whoever holds it renews it")
	_, err = c.Intents().Start(t.Context(), i.ID, "second")
	require.ErrorAs(t, err, &held)

	_, err = c.Intents().Fail(t.Context(), i.ID, client.End{By: "first", Token: l.Token, Error: "broke", Reason: "why"})
	require.NoError(t, err)
	var ended *client.EndedError
	_, err = c.Intents().Claim(t.Context(), i.ID, "second", time.Minute)
	require.ErrorAs(t, err, &ended)
	require.Equal(t, projection.Failed, ended.Intent.Status)
	require.Equal(t, "broke", ended.Intent.Error)
	_, err = c.Intents().Renew(t.Context(), l)
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, event.AgentFailed, conflict.Winner.Type)
	require.ErrorAs(t, c.Intents().Release(t.Context(), l), &conflict)

	_, err = c.Intents().Get(t.Context(), "nobody created it")
	require.ErrorIs(t, err, client.ErrUnknownIntent)
	_, err = c.Intents().Claim(t.Context(), "nobody created it", "x", time.Minute)
	require.ErrorIs(t, err, client.ErrUnknownIntent)
	_, err = c.Intents().Complete(t.Context(), "nobody created it", client.End{By: "x"})
	require.ErrorIs(t, err, client.ErrUnknownIntent)
}

func TestBadIntents(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	i := create(t, c)
	before := position(t, c)
	var invalid *event.InvalidError
	for name, change := range map[string]func(*client.IntentSpec){
		"id":      func(s *client.IntentSpec) { s.ID = string(make([]byte, 300)) },
		"stream":  func(s *client.IntentSpec) { s.StreamID = "" },
		"actor":   func(s *client.IntentSpec) { s.Actor = "" },
		"timeout": func(s *client.IntentSpec) { s.Timeout = -1 },
	} {
		s := client.IntentSpec{StreamID: "ses", Actor: "agent"}
		change(&s)
		_, err := c.Intents().Create(t.Context(), s)
		require.ErrorAs(t, err, &invalid, name)
	}
	for _, length := range []time.Duration{0, -time.Second} {
		_, err := c.Intents().Claim(t.Context(), i.ID, "x", length)
		require.ErrorAs(t, err, &invalid)
	}
	_, err := c.Intents().Claim(t.Context(), i.ID, "", time.Minute)
	require.ErrorAs(t, err, &invalid)
	for _, e := range []event.Event{
		{Type: event.AgentSpawned, Payload: json.RawMessage(`{"id":"x","timeout_ms":-1}`)},
		{Type: event.AgentSpawned, Payload: json.RawMessage(`{"id":"x","description":7}`)},
		{Type: event.AgentSpawned, Payload: json.RawMessage(`{"id":"x","ID":"y"}`)},
		{Type: event.AgentFailed, Payload: json.RawMessage(`{"intent_id":"` + i.ID + `","Intent_ID":"y"}`)},
		{Type: event.AgentFailed, Payload: json.RawMessage(`{"intent_id":"` + i.ID + `","error":7}`)},
	} {
		e.StreamID, e.Actor = "ses", "agent"
		_, err := c.Append(t.Context(), e)
		require.ErrorAs(t, err, &invalid, string(e.Payload))
		_, err = c.AppendBatch(t.Context(), []event.Event{newEvent("1"), e})
		require.ErrorAs(t, err, &invalid, string(e.Payload))
	}
	require.Equal(t, before, position(t, c))
}

func TestIntentIDIsUsedOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	first := create(t, h.Client, func(s *client.IntentSpec) { s.ID = "i" })
	before := position(t, h.Client)
	a := attempt{
		func(ctx context.Context, c *client.Client) error {
			_, err := c.Intents().Create(ctx, client.IntentSpec{ID: "i", StreamID: "ses", Actor: "agent"})
			return err
		},
		event.Event{Type: event.AgentSpawned, StreamID: "ses", Actor: "agent", Payload: json.RawMessage(`{"id":"i"}`)},
	}
	for name, way := range everyWay {
		err := way(t.Context(), h.Client, a)
		var conflict *client.ConflictError
		require.ErrorAs(t, err, &conflict, name)
		require.Equal(t, first.Seq, conflict.Winner.Seq, name)
		require.Equal(t, before, position(t, h.Client), name)
	}
}

// A process that lost its lease cannot end the work, however late it continues.
func TestFencing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	i := create(t, c)
	slept := claim(t, c, i.ID, "sleeper", 50*time.Millisecond)
	_, err := c.Intents().Claim(t.Context(), i.ID, "next", time.Minute)
	require.ErrorIs(t, err, client.ErrHeld)
	l := takeOver(t, h.NewClient(t, client.Config{}), i.ID, "next")
	require.Greater(t, l.Token, slept.Token)
	stored, err := c.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Until(slept.Until), -time.Hour)
	require.Equal(t, "next", stored.Holder)

	var conflict *client.ConflictError
	_, err = c.Intents().Complete(t.Context(), i.ID, client.End{By: "sleeper", Token: slept.Token, Result: "stale"})
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, l.Token, conflict.Seq)
	_, err = c.Intents().Renew(t.Context(), slept)
	require.ErrorAs(t, err, &conflict)
	require.ErrorAs(t, c.Intents().Release(t.Context(), slept), &conflict)
	done, err := c.Intents().Complete(t.Context(), i.ID, client.End{By: "next", Token: l.Token, Result: "right"})
	require.NoError(t, err)
	require.Equal(t, "right", done.Result)
	_, err = c.Intents().Complete(t.Context(), i.ID, client.End{By: "sleeper", Token: slept.Token})
	require.ErrorIs(t, err, client.ErrIntentEnded)
}

// An abort stops work whose lease is renewed all the time.
func TestAbortBesideRenewals(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	i := create(t, h.Client)
	l := claim(t, h.Client, i.ID, "worker", time.Minute)
	worker := h.NewClient(t, client.Config{})
	lost := make(chan error)
	go func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			var err error
			if l, err = worker.Intents().Renew(t.Context(), l); err != nil {
				lost <- err
				return
			}
		}
	}()
	done, err := h.Client.Intents().Abort(t.Context(), i.ID, client.End{By: "ann", Reason: "stop"})
	require.NoError(t, err)
	require.Equal(t, projection.Aborted, done.Status)
	var conflict *client.ConflictError
	require.ErrorAs(t, <-lost, &conflict)
}

// A claim is respected for its margin longer than its lease, and no less.
func TestTakeOverWaitsForTheMargin(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	i := create(t, h.Client)
	start := time.Now()
	claim(t, h.Client, i.ID, "a", 20*time.Millisecond)
	takeOver(t, h.Client, i.ID, "b")
	require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond+projection.LeaseMargin)
}

func TestReleaseAndStart(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	i := create(t, c)
	l := claim(t, c, i.ID, "a", time.Minute)
	require.NoError(t, c.Intents().Release(t.Context(), l))
	now, err := c.Intents().Get(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Pending, now.Status)
	require.Empty(t, now.Holder)
	claim(t, c, i.ID, "b", time.Minute)

	j := create(t, c)
	s, err := c.Intents().Start(t.Context(), j.ID, "a")
	require.NoError(t, err)
	require.True(t, s.Until.IsZero())
	now, err = c.Intents().Get(t.Context(), j.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Running, now.Status)
	l = claim(t, c, j.ID, "b", time.Minute) // a start excludes nobody
	_, err = c.Intents().Complete(t.Context(), j.ID, client.End{By: "a", Token: s.Token})
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict)
	_, err = c.Intents().Complete(t.Context(), j.ID, client.End{By: "b", Token: l.Token})
	require.NoError(t, err)
}

func TestEndThroughAppend(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	for typ, state := range map[string]projection.Status{
		event.AgentCompleted: projection.Completed, event.AgentFailed: projection.Failed, event.AgentAborted: projection.Aborted,
	} {
		for name, way := range everyWay {
			i := create(t, c)
			holder := "worker"
			if typ == event.AgentAborted {
				holder = "somebody else" // an abort works regardless of the holder
			}
			claim(t, c, i.ID, holder, time.Minute)
			require.NoError(t, way(t.Context(), c, ending(t, typ, i.ID, client.End{By: "worker"})), name)
			now, err := c.Intents().Get(t.Context(), i.ID)
			require.NoError(t, err)
			require.Equal(t, state, now.Status, name)
		}
	}
	// The end of an intent that nobody created is an ordinary event.
	r, err := c.Append(t.Context(), ending(t, event.AgentCompleted, "unheard of", client.End{By: "x"}).event)
	require.NoError(t, err)
	require.Empty(t, r.Guard)
	// Work that is created and ended in one batch.
	rs, err := c.AppendBatch(t.Context(), []event.Event{
		{Type: event.AgentSpawned, StreamID: "ses", Actor: "a", Payload: json.RawMessage(`{"id":"quick"}`)},
		ending(t, event.AgentCompleted, "quick", client.End{By: "a"}).event,
	})
	require.NoError(t, err)
	require.Len(t, rs, 2)
	now, err := c.Intents().Get(t.Context(), "quick")
	require.NoError(t, err)
	require.Equal(t, projection.Completed, now.Status)
}

func TestSameEndAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	i := create(t, h.Client)
	e := ending(t, event.AgentFailed, i.ID, client.End{By: "a", Error: "x"}).event
	e.ID = event.NewID()
	first, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	again, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, first, again)
	spawn := event.Event{ID: event.NewID(), Type: event.AgentSpawned, StreamID: "ses", Actor: "a", Payload: json.RawMessage(`{"id":"again"}`)}
	first, err = h.Client.Append(t.Context(), spawn)
	require.NoError(t, err)
	again, err = h.Client.Append(t.Context(), spawn)
	require.NoError(t, err)
	require.Equal(t, first.Seq, again.Seq)
}

// An agent.spawned that somebody published past this library makes an intent too.
func TestBareSpawnMakesAnIntent(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	seq := publishRaw(t, h, event.Event{Type: event.AgentSpawned, StreamID: "ses", Actor: "old agent", Payload: json.RawMessage(`{"id":"bare","description":"d"}`)})
	i, err := c.Intents().Get(t.Context(), "bare")
	require.NoError(t, err)
	require.Equal(t, seq, i.Seq)
	require.Equal(t, projection.Pending, i.Status)
	require.Zero(t, i.GuardSeq)
	resume, err := c.Resume(t.Context())
	require.NoError(t, err)
	require.Len(t, resume.ActiveIntents, 1)

	// Its end published past this library is none.
	publishRaw(t, h, event.Event{Type: event.AgentFailed, StreamID: "ses", Actor: "eve", Payload: json.RawMessage(`{"intent_id":"bare"}`)})
	l := claim(t, c, "bare", "w", time.Minute)
	_, err = c.Intents().Claim(t.Context(), "bare", "v", time.Minute)
	require.ErrorIs(t, err, client.ErrHeld)
	_, err = c.Intents().Complete(t.Context(), "bare", client.End{By: "w", Token: l.Token})
	require.NoError(t, err)
	resume, err = c.Resume(t.Context())
	require.NoError(t, err)
	require.Empty(t, resume.ActiveIntents)
}
