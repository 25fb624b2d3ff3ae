package logio_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// missed appends and reads at once, n times, and counts the reads without the
// event that was appended last.
func missed(t *testing.T, c journal, n int) (count int, slowest time.Duration) {
	t.Helper()
	for i := range n {
		r, err := c.Append(t.Context(), event.Event{Type: "task.created", Actor: "a", StreamID: fmt.Sprint("s", i%7)})
		require.NoError(t, err)
		start := time.Now()
		found := false
		for got, err := range c.Query(t.Context(), event.Filter{StreamID: r.StreamID}) {
			require.NoError(t, err)
			found = found || got.ID == r.ID
		}
		slowest = max(slowest, time.Since(start))
		if !found {
			count++
		}
	}
	return count, slowest
}

func TestQuerySeesWhatThisClientAppended(t *testing.T) {
	t.Parallel()
	_, nc := brokertest.StartLagging(t, 30*time.Millisecond)
	c := open(t, nc, logio.Config{})
	start := time.Now()
	n, slowest := missed(t, c, longtest.Pick(20, 60))
	t.Logf("%d missed, in %v, slowest %v", n, time.Since(start), slowest)
	require.Zero(t, n)

	c.TrustTheReplica()
	start = time.Now()
	n, slowest = missed(t, c, longtest.Pick(20, 60))
	t.Logf("trusting: %d missed, in %v, slowest %v", n, time.Since(start), slowest)
	require.NotZero(t, n, "the follower does not lag: this test shows nothing")
}

// A follower that has been away is behind for a while; what it feeds is whole.
func TestQueryWhileAFollowerCatchesUp(t *testing.T) {
	t.Parallel()
	cl := brokertest.StartCluster(t)
	c := open(t, cl.Connect(t), logio.Config{})
	away := (cl.Leader() + 1) % 3
	cl.Stop(t, away)
	n := longtest.Pick(2500, 5000)
	for range n / 500 {
		events := make([]event.Event, 500)
		for i := range events {
			events[i] = event.Event{Type: "task.created", StreamID: "s", Actor: "a"}
		}
		_, err := c.AppendBatch(t.Context(), events)
		require.NoError(t, err)
	}
	cl.Start(t, away)
	for i := range longtest.Pick(3, 30) {
		r, err := c.Append(t.Context(), event.Event{Type: "task.completed", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
		seen := 0
		var last event.Recorded
		for got, err := range c.Query(t.Context(), event.Filter{Types: []string{"task.*"}}) {
			require.NoError(t, err)
			seen++
			last = got
		}
		require.Equal(t, r.ID, last.ID, "query %d", i)
		require.Equal(t, n+i+1, seen, "query %d", i)
	}
}

// cutOff is a cluster whose leader is cut off from the others and does not know yet
// that they have chosen another; stored is an event that they have taken since.
func cutOff(t *testing.T) (old, others journal, stored event.Recorded, links *brokertest.Links) {
	t.Helper()
	cl, links := brokertest.StartLinkedCluster(t)
	leader := cl.Leader()
	old, others = open(t, cl.ConnectTo(t, leader), logio.Config{}), open(t, cl.ConnectTo(t, (leader+1)%3), logio.Config{})
	_, err := old.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	links.Isolate(leader)
	stored, err = others.Append(t.Context(), event.Event{Type: "task.completed", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	return old, others, stored, links
}

func TestBarrierWithALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	old, others, stored, links := cutOff(t)
	stale, err := old.Position(within(t, 5*time.Second))
	for range 5 {
		if err == nil {
			break
		}
		links.Heal() // the choice of another leader took so long that the old one has noticed
		old, others, stored, links = cutOff(t)
		stale, err = old.Position(within(t, 5*time.Second))
	}
	require.NoError(t, err)
	require.Less(t, stale, stored.Seq, "the old leader answers as if it were one: this test needs that")

	// What this client has seen is never taken back.
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	old.Saw(stored.Seq)
	_, err = old.Position(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// A linearizable read waits or fails.
	short, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for r, err := range old.Query(short, event.Filter{Linearizable: true}) {
		require.ErrorIs(t, err, context.DeadlineExceeded, "%v", r)
	}
	require.Zero(t, old.Barriers())

	seq, err := others.Barrier(t.Context())
	require.NoError(t, err)
	require.Greater(t, seq, stored.Seq)
	require.EqualValues(t, 1, others.Barriers())

	links.Heal()
	var last event.Recorded
	for r, err := range old.Query(t.Context(), event.Filter{Linearizable: true}) {
		require.NoError(t, err)
		last = r
	}
	require.Equal(t, stored.ID, last.ID)
	require.EqualValues(t, 1, old.Barriers())
}

// A leader that is cut off refuses a guard that others have moved; it must not be believed.
func TestGuardWithALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	old, others, _, links := cutOff(t)
	at, err := others.AppendGuarded(t.Context(), "g", 0)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = old.AppendGuarded(short, "g", at)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var conflict *event.ConflictError
	require.False(t, errors.As(err, &conflict), "%v", err)

	links.Heal()
	again, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = old.AppendGuarded(again, "g", at+1000, event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.ErrorAs(t, err, &conflict, "a position from the future")
	last, err := others.Last(again, wire.GuardSubject(event.GuardUser, "g"))
	require.NoError(t, err)
	_, err = old.AppendGuarded(again, "g", event.Sequence(last.Sequence), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
}

func TestBarrierIsShared(t *testing.T) {
	t.Parallel()
	cl := brokertest.StartCluster(t)
	c := open(t, cl.Connect(t), logio.Config{})
	r, err := c.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	const callers = 200
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			ctx := t.Context()
			if i%10 == 0 { // callers that share a request with a cancelled caller get their answer
				short, cancel := context.WithCancel(ctx)
				cancel()
				ctx = short
			}
			seq, err := c.Barrier(ctx)
			if i%10 == 0 && err != nil {
				assert.ErrorIs(t, err, context.Canceled)
				return
			}
			assert.NoError(t, err)
			assert.Greater(t, seq, r.Seq)
		})
	}
	all.Wait()
	t.Logf("%d callers, %d barriers", callers, c.Barriers())
	require.Less(t, c.Barriers(), uint64(callers/2))
	require.NotZero(t, c.Barriers())

	// None is before what was appended when it was asked for.
	for range 20 {
		r, err := c.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
		seq, err := c.Barrier(t.Context())
		require.NoError(t, err)
		require.Greater(t, seq, r.Seq)
	}
}

func TestBarrierOfASingleHost(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	if h.Replicated() {
		t.Skip("it is about a single host, and this is a cluster")
	}
	l := open(t, h.Connect(t), logio.Config{})
	r, err := l.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	for got, err := range l.Query(t.Context(), event.Filter{Linearizable: true}) {
		require.NoError(t, err)
		require.Equal(t, r.ID, got.ID)
	}
	seq, err := l.Barrier(t.Context())
	require.NoError(t, err)
	require.Equal(t, r.Seq, seq, "nothing is stored for it")
	require.Zero(t, l.Barriers())
}
