package client_test

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

func TestAppendGuarded(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	at, err := c.GuardPosition(t.Context(), "a name. *>é")
	require.NoError(t, err)
	require.Zero(t, at)
	first, rs, err := c.AppendGuarded(t.Context(), client.Guard{Name: "a name. *>é", Data: json.RawMessage(`{"n":1}`)}, newEvent("1"), newEvent("2"))
	require.NoError(t, err)
	require.Len(t, rs, 2)
	require.Equal(t, first+1, rs[0].Seq)
	require.Equal(t, rs, query(t, c, event.Filter{}))
	at, err = c.GuardPosition(t.Context(), "a name. *>é")
	require.NoError(t, err)
	require.Equal(t, first, at)

	before := position(t, c)
	_, _, err = c.AppendGuarded(t.Context(), client.Guard{Name: "a name. *>é"}, newEvent("3"))
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, first, conflict.Seq)
	require.Zero(t, conflict.Expected)
	require.Equal(t, rs[0], *conflict.Winner)
	require.Equal(t, before, position(t, c))

	// It may be moved alone, and the token only grows.
	second, rs, err := c.AppendGuarded(t.Context(), client.Guard{Name: "a name. *>é", Expected: first})
	require.NoError(t, err)
	require.Empty(t, rs)
	require.Greater(t, second, first)
	_, _, err = c.AppendGuarded(t.Context(), client.Guard{Name: "a name. *>é", Expected: first}, newEvent("4"))
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, second, conflict.Seq)
	require.Nil(t, conflict.Winner, "no event came with it")
	_, _, err = c.AppendGuarded(t.Context(), client.Guard{Name: "a name. *>é", Expected: second + 99}, newEvent("5"))
	require.ErrorAs(t, err, &conflict, "a position from the future")
	_, _, err = c.AppendGuarded(t.Context(), client.Guard{Name: "never written", Expected: 7}, newEvent("6"))
	require.ErrorAs(t, err, &conflict)
	require.Zero(t, conflict.Seq)
}

func TestAppendGuardedBadInput(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cp := brokertest.Ask(t, h.Client)
	before := position(t, h.Client)
	for name, try := range map[string]struct {
		g  client.Guard
		es []event.Event
	}{
		"no name":              {client.Guard{}, []event.Event{newEvent("1")}},
		"a long name":          {client.Guard{Name: string(make([]byte, 300))}, nil},
		"data is no JSON":      {client.Guard{Name: "g", Data: json.RawMessage(`{`)}, nil},
		"a bad event":          {client.Guard{Name: "g"}, []event.Event{newEvent("1"), {Type: "x"}}},
		"too many":             {client.Guard{Name: "g"}, numbered(1000)},
		"a decision":           {client.Guard{Name: "g"}, []event.Event{rejection(t, cp.ID, "ann").event}},
		"an intent's creation": {client.Guard{Name: "g"}, []event.Event{{Type: event.AgentSpawned, StreamID: "s", Actor: "a", Payload: json.RawMessage(`{"id":"i"}`)}}},
	} {
		_, _, err := h.Client.AppendGuarded(t.Context(), try.g, try.es...)
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		require.Equal(t, before, position(t, h.Client), name)
	}
	_, err := h.Client.GuardPosition(t.Context(), "")
	var invalid *event.InvalidError
	require.ErrorAs(t, err, &invalid)
}

// A counter that many writers move: no update is lost.
func TestGuardedCounter(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	const writers, each = 8, 5
	var wg sync.WaitGroup
	for range writers {
		c := h.NewClient(t, client.Config{})
		wg.Go(func() {
			var known event.Sequence
			for done := 0; done < each; {
				seq, _, err := c.AppendGuarded(t.Context(), client.Guard{Name: "counter", Expected: known}, newEvent("1"))
				conflict, lost := errorIs[*client.ConflictError](err)
				switch {
				case lost:
					known = conflict.Seq
				case err != nil:
					t.Error(err)
					return
				default:
					known, done = seq, done+1
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, query(t, h.Client, event.Filter{}), writers*each)
}

func TestGuardedAcrossARestart(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	var known event.Sequence
	for range 3 {
		seq, _, err := h.Client.AppendGuarded(t.Context(), client.Guard{Name: "g", Expected: known}, newEvent("1"))
		require.NoError(t, err)
		known = seq
		h.Restart(t)
	}
	at, err := h.Client.GuardPosition(t.Context(), "g")
	require.NoError(t, err)
	require.Equal(t, known, at)
}
