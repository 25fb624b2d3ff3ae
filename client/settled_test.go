package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/mirror"
	"durablestream/projection"
)

// tornLog is a Log of ten events that ends with a part of a batch: the engine has stored
// some of its 100 messages, and completes it at the next restart. The last event of the
// batch is of a type of its own.
func tornLog(t *testing.T) (h *brokertest.Host, batch []event.Event, appended <-chan error) {
	t.Helper()
	h = brokertest.StartLone(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	batch = numbered(100)
	for i := range batch {
		batch[i].ID = fmt.Sprintf("member_%d", i)
		batch[i].Payload = []byte(`"` + strings.Repeat("x", 1000) + `"`)
	}
	batch[99].Type = "batch.end"
	return h, batch, tear(t, h, batch)
}

// tear appends a batch of which the engine stores about the first 20 kB.
func tear(t *testing.T, h *brokertest.Host, batch []event.Event) <-chan error {
	t.Helper()
	h.Room(t, 20_000)
	c := h.NewClient(t, client.Config{})
	done := make(chan error, 1)
	go func() {
		_, err := c.AppendBatch(t.Context(), batch)
		done <- err
	}()
	torn(t, h)
	return done
}

// torn waits until the engine has stored a part of a batch, and goes no further.
func torn(t *testing.T, h *brokertest.Host) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := h.Client.Admin().State(t.Context())
		require.NoError(t, err)
		return s.Last > 12 && s.Last < 110 && h.Staged(t)
	}, 20*time.Second, time.Millisecond)
}

func TestNoReaderSeesAPartOfABatch(t *testing.T) {
	t.Parallel()
	h, batch, appended := tornLog(t)
	st, err := h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.Greater(t, st.Last, event.Sequence(11), "a part of the batch is stored")
	require.Less(t, st.Last, event.Sequence(110))

	fresh := h.NewClient(t, client.Config{})
	for name, c := range map[string]*client.Client{"a client that has read": h.Client, "one that has not": fresh} {
		require.EqualValues(t, 10, position(t, c), name)
		require.Len(t, query(t, c, event.Filter{}), 10, name)
		require.Len(t, query(t, c, event.Filter{Last: 3, Types: []string{batch[0].Type}}), 3, name)
		require.EqualValues(t, "10", query(t, c, event.Filter{Last: 1})[0].Payload, name)
	}
	report, err := mirror.Verify(t.Context(), mirror.Config{Client: fresh, Dir: t.TempDir()})
	require.NoError(t, err)
	require.EqualValues(t, 10, report.LogLast)

	select {
	case err := <-appended:
		require.NoError(t, err, "the append waits for the host")
	default:
	}
	h.Restart(t)
	require.NoError(t, <-appended)
	require.Len(t, query(t, fresh, event.Filter{}), 110)
	require.EqualValues(t, 110, position(t, fresh))
}

func TestAReaderThatFollowsWaitsForTheWholeBatch(t *testing.T) {
	t.Parallel()
	h := brokertest.StartLone(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	filters := map[string]event.Filter{
		"all":                   {},
		"without the last one":  {Types: []string{"a.b"}},
		"only the last one":     {Types: []string{"batch.end"}},
		"from before the batch": {After: 10},
	}
	batch := numbered(100)
	for i := range batch {
		batch[i].Type, batch[i].Payload = "a.b", []byte(`"`+strings.Repeat("x", 1000)+`"`)
	}
	batch[99].Type = "batch.end"
	subs := map[string]*subscription{}
	for name, f := range filters {
		subs[name] = subscribe(t, h.NewClient(t, client.Config{}), f)
	}
	entries := make(chan projection.Entry, 200)
	follower := h.NewClient(t, client.Config{})
	go func() {
		for e, err := range follower.FollowEntries(t.Context(), projection.Needs{Types: []string{"a.b"}}, 0) {
			if err != nil {
				return
			}
			entries <- e
		}
	}()
	subs["all"].next(t, 10)
	appended := tear(t, h, batch)
	late := subscribe(t, h.NewClient(t, client.Config{}), event.Filter{}) // attached while it is open
	late.next(t, 10)
	subs["all, late"] = late
	require.NoError(t, h.Client.Admin().Fence(t.Context())) // what was stored before is on its way
	for name, s := range subs {
		require.Empty(t, s.got, name)
	}
	require.Empty(t, entries)

	h.Restart(t)
	require.NoError(t, <-appended)
	all := query(t, h.Client, event.Filter{After: 10})
	require.Len(t, all, 100)
	for name, s := range subs {
		want := reference(all, filters[name])
		require.Equal(t, want, s.next(t, len(want)), name)
		s.ended(t)
	}
}

func TestAnAppendThatIsStoredInPartIsNotRefused(t *testing.T) {
	t.Parallel()
	h, batch, appended := tornLog(t)
	h.Room(t, 1<<30) // what is appended reaches the Log again
	// The same batch again, one of its events alone, and a batch with one of them, while
	// the outcome is open: no call may report that an id belongs to another event.
	for name, events := range map[string][]event.Event{"the batch": batch, "an event": batch[:1], "another batch": {batch[5], numbered(1)[0]}} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := h.NewClient(t, client.Config{}).AppendBatch(ctx, events)
		cancel()
		require.ErrorIs(t, err, client.ErrUnknownOutcome, name)
		require.NotErrorIs(t, err, client.ErrDuplicateID, name)
	}
	h.Restart(t)
	require.NoError(t, <-appended)
	again, err := h.Client.AppendBatch(t.Context(), batch)
	require.NoError(t, err)
	require.EqualValues(t, 11, again[0].Seq)
	require.EqualValues(t, 110, position(t, h.Client))
}

func TestAGuardOfAnOpenBatchHasNotMoved(t *testing.T) {
	t.Parallel()
	h := brokertest.StartLone(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	first, _, err := h.Client.AppendGuarded(t.Context(), client.Guard{Name: "g"}, numbered(1)...)
	require.NoError(t, err)
	events := numbered(50)
	for i := range events {
		events[i].Payload = []byte(`"` + strings.Repeat("x", 1000) + `"`)
	}
	h.Room(t, 20_000)
	c := h.NewClient(t, client.Config{})
	type outcome struct {
		seq event.Sequence
		err error
	}
	moved := make(chan outcome, 1)
	go func() {
		seq, _, err := c.AppendGuarded(t.Context(), client.Guard{Name: "g", Expected: first}, events...)
		moved <- outcome{seq, err}
	}()
	torn(t, h)
	h.Room(t, 1<<30)
	at, err := h.Client.GuardPosition(t.Context(), "g")
	require.NoError(t, err)
	require.Equal(t, first, at)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err = h.Client.AppendGuarded(ctx, client.Guard{Name: "g", Expected: first}, numbered(1)...)
	require.ErrorIs(t, err, client.ErrUnknownOutcome)
	var conflict *client.ConflictError
	require.False(t, errors.As(err, &conflict), "nobody has won: %v", err)

	h.Restart(t)
	got := <-moved
	require.NoError(t, got.err)
	at, err = h.Client.GuardPosition(t.Context(), "g")
	require.NoError(t, err)
	require.Equal(t, got.seq, at)
}
