package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

// newEvent is a valid event with that payload.
func newEvent(payload string) event.Event {
	return event.Event{Type: "test.event", StreamID: "s", Actor: "tester", Payload: []byte(payload)}
}

// numbered gives n events with payloads 1 to n.
func numbered(n int) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = newEvent(fmt.Sprint(i + 1))
	}
	return es
}

// query collects what a Query brings.
func query(t *testing.T, c *client.Client, f event.Filter) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range c.Query(t.Context(), f) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func position(t *testing.T, c *client.Client) event.Sequence {
	t.Helper()
	at, err := c.Position(t.Context())
	require.NoError(t, err)
	return at
}

// within bounds a test's waits.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAppendFillsIn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.NewClient(t, client.Config{StreamID: "mine"})
	before := event.Now()
	r, err := c.Append(t.Context(), event.Event{Type: "task.created", Actor: "me"})
	require.NoError(t, err)
	id, err := uuid.Parse(r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 7, id.Version())
	require.GreaterOrEqual(t, r.Timestamp, before)
	require.LessOrEqual(t, r.Timestamp, event.Now())
	require.Equal(t, "mine", r.StreamID)
	require.Equal(t, "{}", string(r.Payload))
	require.Nil(t, r.Metadata)
	require.Equal(t, c.CorrelationID(), r.CorrelationID)
	require.NotEmpty(t, r.CorrelationID)
	require.EqualValues(t, 1, r.Seq)
	require.Equal(t, []event.Recorded{r}, query(t, c, event.Filter{}))

	require.NotEqual(t, c.CorrelationID(), h.Client.CorrelationID(), "each client has its own")
	d := h.NewClient(t, client.Config{CorrelationID: "run-1"})
	r, err = d.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.Equal(t, "run-1", r.CorrelationID)
}

func TestAppendKeepsWhatIsGiven(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	given := event.Event{
		ID: "id with spaces, ünïcode", Type: "a.b-c.D_1", StreamID: "s.1 * > %41 \x7f ü", CausationID: "cause",
		CorrelationID: "corr", Actor: "ä", Timestamp: time.UnixMilli(1),
		Payload:  json.RawMessage("{ \"n\" : 123456789012345678901234567890.10 ,\t\"html\":\"<&>\\u00e9é\" }\n"),
		Metadata: json.RawMessage(` { "k" : [ 1 , 2 ] } `),
		Extra:    []event.Field{{Name: "x y", Value: json.RawMessage(` [ true ] `)}},
	}
	was := given.Clone()
	r, err := h.Client.Append(t.Context(), given)
	require.NoError(t, err)
	require.Equal(t, was, given, "the input is not changed")

	want := given.Clone()
	want.Payload = json.RawMessage(`{"n":123456789012345678901234567890.10,"html":"<&>\u00e9é"}`)
	want.Metadata = json.RawMessage(`{"k":[1,2]}`)
	want.Extra[0].Value = json.RawMessage(`[true]`)
	require.Equal(t, event.Recorded{Event: want, Seq: 1}, r)
	require.Equal(t, []event.Recorded{r}, query(t, h.Client, event.Filter{}))

	// Nor do input and answer share memory.
	clear(given.Payload)
	clear(given.Metadata)
	clear(given.Extra[0].Value)
	given.Extra[0].Name = ""
	require.Equal(t, event.Recorded{Event: want, Seq: 1}, r)
}

func TestSameIDAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	e := newEvent(`{"n":1}`)
	e.ID = "once"
	first, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)

	again := e
	again.Payload = []byte(` { "n" : 1 } `)
	again.Actor, again.Timestamp = "somebody else", time.UnixMilli(5) // what was recorded first stands
	for _, c := range []*client.Client{h.Client, h.NewClient(t, client.Config{})} {
		r, err := c.Append(t.Context(), again)
		require.NoError(t, err)
		require.Equal(t, first, r)
	}
	h.Restart(t)
	r, err := h.Client.Append(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, first, r)

	for name, change := range map[string]func(*event.Event){
		"payload": func(e *event.Event) { e.Payload = []byte(`{"n":1.0}`) },
		"type":    func(e *event.Event) { e.Type = "test.other" },
		"stream":  func(e *event.Event) { e.StreamID = "t" },
	} {
		other := e
		change(&other)
		_, err := h.Client.Append(t.Context(), other)
		require.ErrorIs(t, err, client.ErrDuplicateID, name)
		require.ErrorContains(t, err, "seq 1")
	}
	require.EqualValues(t, 1, position(t, h.Client))
}

func TestSameIDAtOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for round := range 10 {
		e := newEvent("1")
		e.ID = fmt.Sprint("round ", round)
		var at [16]event.Sequence
		var all sync.WaitGroup
		for i := range at {
			all.Go(func() {
				r, err := h.Client.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
				}
				at[i] = r.Seq
			})
		}
		all.Wait()
		for _, seq := range at {
			require.EqualValues(t, round+1, seq)
		}
	}
}

func TestAppendConcurrently(t *testing.T) {
	t.Parallel()
	const writers, each = 64, 20
	h := brokertest.Start(t)
	var got [writers][]event.Recorded
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				e := newEvent(fmt.Sprint(i))
				e.Actor = fmt.Sprint(w)
				r, err := h.Client.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				got[w] = append(got[w], r)
			}
		})
	}
	all.Wait()
	log := query(t, h.Client, event.Filter{})
	require.Len(t, log, writers*each)
	for w := range got {
		require.Len(t, got[w], each)
		require.True(t, slices.IsSortedFunc(got[w], func(a, b event.Recorded) int { return int(a.Seq) - int(b.Seq) }))
		for _, r := range got[w] {
			require.Equal(t, r, log[r.Seq-1])
		}
	}
}

// The context decides how long an append waits, and nothing else makes its outcome
// unknown.
func TestAppendWithoutABroker(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{
		errorOf(h.Client.Append(ended, newEvent("1"))),
		errorOf(h.Client.AppendBatch(ended, numbered(3))),
	} {
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, client.ErrUnknownOutcome, "nothing was sent")
	}

	h.Stop(t)
	require.Eventually(t, func() bool { return !h.Conn.IsConnected() }, 10*time.Second, time.Millisecond)
	down := h.Client
	require.Eventually(t, func() bool {
		_, err := down.Append(within(t, 20*time.Millisecond), newEvent("1"))
		return errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrUnknownOutcome)
	}, 10*time.Second, time.Millisecond, "a connection that is known to be lost")
	_, err := down.AppendBatch(within(t, 50*time.Millisecond), numbered(3))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome)

	// A caller that still waits gets its answer once a broker runs again.
	late := make(chan event.Recorded)
	go func() {
		defer close(late)
		r, err := down.Append(within(t, 20*time.Second), newEvent(`"late"`))
		if err != nil {
			t.Error(err)
		}
		late <- r
	}()
	h.Boot(t)
	r := <-late
	require.EqualValues(t, 1, r.Seq)
}

func errorOf[T any](_ T, err error) error { return err }

// An append keeps whole milliseconds of the time, in the answer as in the Log; the time 0 is
// no time, as in JSON.
func TestAppendKeepsMilliseconds(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	begun := time.Now()
	e := newEvent("1")
	e.Timestamp = begun
	r, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, time.UnixMilli(begun.UnixMilli()), r.Timestamp)
	require.Equal(t, []event.Recorded{r}, query(t, h.Client, event.Filter{Since: begun}))
	e.ID, e.Timestamp = "", time.UnixMilli(0)
	r, err = h.Client.Append(t.Context(), e)
	require.NoError(t, err)
	require.False(t, r.Timestamp.Before(time.UnixMilli(begun.UnixMilli())))
}
