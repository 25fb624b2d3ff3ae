package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
)

// lagging starts a cluster in which one follower hears of the Log's leader late, and
// of the node that places consumers at once: a reader that is fed by it is behind.
// The client is connected to that third node.
func lagging(t *testing.T, late time.Duration) (*brokertest.Cluster, *client.Client) {
	t.Helper()
	cl, links := brokertest.StartLinkedCluster(t)
	for range 20 {
		if cl.Leader() != cl.MetaLeader() {
			break
		}
		cl.StepDown(t)
	}
	leader, meta := cl.Leader(), cl.MetaLeader()
	require.NotEqual(t, leader, meta)
	c, err := client.New(t.Context(), cl.ConnectTo(t, meta), client.Config{StreamID: "ses_1"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	links.Delay(leader, 3-leader-meta, late)
	return cl, c
}

// missed appends and reads at once, n times, and counts the reads without the
// event that was appended last.
func missed(t *testing.T, c *client.Client, n int) (count int, slowest time.Duration) {
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
	_, c := lagging(t, 30*time.Millisecond)
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

// Everything that is a bounded read: each is asked right after what it must see.
func TestBoundedReadsOnACluster(t *testing.T) {
	t.Parallel()
	_, c := lagging(t, 15*time.Millisecond)
	ctx := t.Context()
	for i := range 10 {
		q, err := c.RequestCheckpoint(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "agent", DecisionPoint: "?"})
		require.NoError(t, err)
		pending, err := c.Checkpoints(ctx, true)
		require.NoError(t, err)
		require.Len(t, pending, 1, "round %d", i)
		_, err = c.Approve(ctx, q.ID, client.Approval{By: "human"})
		require.NoError(t, err)
		pending, err = c.Checkpoints(ctx, true)
		require.NoError(t, err)
		require.Empty(t, pending, "round %d", i)

		x, err := c.CreateIntent(ctx, client.IntentSpec{StreamID: "s", Actor: "agent"})
		require.NoError(t, err)
		active, err := c.Intents(ctx, true)
		require.NoError(t, err)
		require.Len(t, active, 1, "round %d", i)
		l, err := c.ClaimIntent(ctx, x.ID, "w", time.Minute)
		require.NoError(t, err)
		_, err = c.CompleteIntent(ctx, x.ID, client.End{By: "w", Token: l.Token})
		require.NoError(t, err)
		r, err := c.Resume(ctx)
		require.NoError(t, err)
		require.Empty(t, r.ActiveIntents, "round %d", i)

		last, err := c.Append(ctx, event.Event{Type: "task.created", Actor: "a", StreamID: "s"})
		require.NoError(t, err)
		for got, err := range c.Query(ctx, event.Filter{StreamID: "s", Last: 1}) {
			require.NoError(t, err)
			require.Equal(t, last.ID, got.ID, "round %d", i)
		}
	}
}

// A follower that has been away is behind for a while; what it feeds is whole.
func TestQueryWhileAFollowerCatchesUp(t *testing.T) {
	t.Parallel()
	cl := brokertest.StartCluster(t)
	c := cl.NewClient(t, client.Config{StreamID: "s"})
	away := (cl.Leader() + 1) % 3
	cl.Stop(t, away)
	const n = 5000
	for range n / 500 {
		events := make([]event.Event, 500)
		for i := range events {
			events[i] = event.Event{Type: "task.created", Actor: "a"}
		}
		_, err := c.AppendBatch(t.Context(), events)
		require.NoError(t, err)
	}
	cl.Start(t, away)
	for i := range longtest.Pick(6, 30) {
		r, err := c.Append(t.Context(), event.Event{Type: "task.completed", Actor: "a"})
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
func cutOff(t *testing.T) (old *client.Client, others *client.Client, stored event.Recorded, links *brokertest.Links) {
	t.Helper()
	cl, links := brokertest.StartLinkedCluster(t)
	leader := cl.Leader()
	newClient := func(i int) *client.Client {
		c, err := client.New(t.Context(), cl.ConnectTo(t, i), client.Config{StreamID: "s"})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	old, others = newClient(leader), newClient((leader+1)%3)
	_, err := old.Append(t.Context(), event.Event{Type: "task.created", Actor: "a"})
	require.NoError(t, err)
	links.Isolate(leader)
	stored, err = others.Append(t.Context(), event.Event{Type: "task.completed", Actor: "a"})
	require.NoError(t, err)
	return old, others, stored, links
}

func TestBarrierWithALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	old, others, stored, links := cutOff(t)
	stale, err := old.Position(t.Context())
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
	at, _, err := others.AppendGuarded(t.Context(), client.Guard{Name: "g"})
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _, err = old.AppendGuarded(short, client.Guard{Name: "g", Expected: at})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var conflict *client.ConflictError
	require.False(t, errors.As(err, &conflict), "%v", err)

	links.Heal()
	again, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, _, err = old.AppendGuarded(again, client.Guard{Name: "g", Expected: at + 1000}, event.Event{Type: "task.created", Actor: "a"})
	require.ErrorAs(t, err, &conflict, "a position from the future")
	now, err := others.GuardPosition(again, "g")
	require.NoError(t, err)
	_, _, err = old.AppendGuarded(again, client.Guard{Name: "g", Expected: now}, event.Event{Type: "task.created", Actor: "a"})
	require.NoError(t, err)
}

func TestBarrierIsShared(t *testing.T) {
	t.Parallel()
	cl := brokertest.StartCluster(t)
	c := cl.NewClient(t, client.Config{StreamID: "s"})
	r, err := c.Append(t.Context(), event.Event{Type: "task.created", Actor: "a"})
	require.NoError(t, err)
	const callers = 200
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			ctx := t.Context()
			if i%10 == 0 { // those who share one with a caller that goes get theirs
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
		r, err := c.Append(t.Context(), event.Event{Type: "task.created", Actor: "a"})
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
	r, err := h.Client.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	for got, err := range h.Client.Query(t.Context(), event.Filter{Linearizable: true}) {
		require.NoError(t, err)
		require.Equal(t, r.ID, got.ID)
	}
	seq, err := h.Client.Barrier(t.Context())
	require.NoError(t, err)
	require.Equal(t, r.Seq, seq, "nothing is stored for it")
	require.Zero(t, h.Client.Barriers())
	for _, err := range h.Client.Subscribe(t.Context(), event.Filter{Linearizable: true}) {
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "linearizable", invalid.Field)
	}
}
