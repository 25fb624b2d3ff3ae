package sweeper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/sweeper"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// run sweeps until the test ends, or until stop.
func run(t *testing.T, cfg sweeper.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sweeper.Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func ask(t *testing.T, c *client.Client, expires time.Duration) projection.Checkpoint {
	t.Helper()
	cp, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{
		StreamID: "ses", RequestedBy: "agent", DecisionPoint: "?", ExpiresIn: expires,
	})
	require.NoError(t, err)
	return cp
}

func create(t *testing.T, c *client.Client, timeout time.Duration) projection.Intent {
	t.Helper()
	i, err := c.Intents().Create(t.Context(), client.IntentSpec{StreamID: "ses", Actor: "agent", Timeout: timeout})
	require.NoError(t, err)
	return i
}

// passed waits until a moment has come.
func passed(t *testing.T, at time.Time) {
	t.Helper()
	require.Eventually(t, func() bool { return time.Now().After(at) }, 10*time.Second, time.Millisecond)
}

func checkpoint(t *testing.T, c *client.Client, id string) projection.Checkpoint {
	t.Helper()
	cp, err := c.Checkpoints().Get(t.Context(), id)
	require.NoError(t, err)
	return cp
}

func intent(t *testing.T, c *client.Client, id string) projection.Intent {
	t.Helper()
	i, err := c.Intents().Get(t.Context(), id)
	require.NoError(t, err)
	return i
}

func TestSweepDecidesWhatIsDue(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	decided, err := sweeper.Sweep(t.Context(), sweeper.Config{Client: c})
	require.NoError(t, err)
	require.Zero(t, decided, "an empty log")

	due, later, never := ask(t, c, time.Millisecond), ask(t, c, time.Hour), ask(t, c, 0)
	short, long := create(t, c, time.Millisecond), create(t, c, time.Hour)
	l, err := c.Intents().Claim(t.Context(), short.ID, "worker", time.Hour)
	require.NoError(t, err)
	passed(t, time.Now().Add(5*time.Millisecond))
	decided, err = sweeper.Sweep(t.Context(), sweeper.Config{Client: c})
	require.NoError(t, err)
	require.Equal(t, 2, decided)
	require.Equal(t, projection.Expired, checkpoint(t, c, due.ID).Status)
	require.Equal(t, projection.Pending, checkpoint(t, c, later.ID).Status)
	require.Equal(t, projection.Pending, checkpoint(t, c, never.ID).Status)
	failed := intent(t, c, short.ID)
	require.Equal(t, projection.Failed, failed.Status, "whoever holds it")
	require.Equal(t, "timeout", failed.Reason)
	require.Equal(t, client.SweeperActor, failed.EndedBy)
	require.Equal(t, projection.Pending, intent(t, c, long.ID).Status)
	_, err = c.Intents().Complete(t.Context(), short.ID, client.End{By: "worker", Token: l.Token})
	require.ErrorIs(t, err, client.ErrIntentEnded)

	decided, err = sweeper.Sweep(t.Context(), sweeper.Config{Client: c})
	require.NoError(t, err)
	require.Zero(t, decided)
}

func TestRunDecidesInTime(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	cp := ask(t, c, 300*time.Millisecond)
	i := create(t, c, 300*time.Millisecond)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done, err := c.Checkpoints().Wait(ctx, cp.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Expired, done.Status)
	require.GreaterOrEqual(t, done.Decision.At.Milli(), cp.ExpiresAt.Milli())
	require.Eventually(t, func() bool { return intent(t, c, i.ID).Status == projection.Failed }, 5*time.Second, 5*time.Millisecond)
	require.Less(t, time.Since(start), 2*time.Second)
}

// Renewals do not put off a time-out, and one that comes in between does not save it.
func TestTimeOutOfWorkThatIsRenewed(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	i := create(t, h.Client, 200*time.Millisecond)
	l, err := h.Client.Intents().Claim(t.Context(), i.ID, "worker", time.Minute)
	require.NoError(t, err)
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	require.Eventually(t, func() bool {
		renewed, err := h.Client.Intents().Renew(t.Context(), l)
		if err == nil {
			l = renewed
			return false
		}
		var conflict *client.ConflictError
		require.True(t, errors.As(err, &conflict) || errors.Is(err, client.ErrIntentEnded), "%v", err)
		return intent(t, h.Client, i.ID).Status == projection.Failed
	}, 10*time.Second, 50*time.Millisecond)
}

func TestAnyNumberOfSweepersDecideOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	for range 4 {
		run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	}
	var ids []string
	for range 10 {
		ids = append(ids, ask(t, c, 200*time.Millisecond).ID)
		create(t, c, 200*time.Millisecond)
	}
	require.Eventually(t, func() bool {
		r, err := c.Resume(t.Context())
		require.NoError(t, err)
		return len(r.PendingCheckpoints)+len(r.ActiveIntents) == 0
	}, 20*time.Second, 10*time.Millisecond)
	count := map[string]int{}
	for r, err := range c.Query(t.Context(), event.Filter{Types: []string{event.CheckpointExpired, event.AgentFailed}}) {
		require.NoError(t, err)
		count[r.Type]++
	}
	require.Equal(t, map[string]int{event.CheckpointExpired: len(ids), event.AgentFailed: len(ids)}, count)
}

func TestCancelsWhatWasAsked(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	cp := ask(t, c, 0)
	done, err := c.Checkpoints().Cancel(t.Context(), cp.ID, client.Cancellation{By: "agent", Reason: "no longer"})
	require.NoError(t, err)
	require.Equal(t, projection.Cancelled, done.Status)
	require.Equal(t, client.SweeperActor, done.Decision.By)
	require.Equal(t, "no longer", done.Decision.Reason)
}

// The end of a session that somebody only appended takes its work and questions
// along, and leaves what a session created anew has asked since.
func TestEndOfASessionThroughAppend(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{event.LifecycleSessionAborted, event.LifecycleSessionDeleted} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			c := h.Client
			life := func(typ string) {
				_, err := c.Append(t.Context(), event.Event{Type: typ, StreamID: "ses", Actor: "agent"})
				require.NoError(t, err)
			}
			life(event.LifecycleSessionCreated)
			cp, i := ask(t, c, 0), create(t, c, 0)
			life(typ)
			after := ask(t, c, 0)
			run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
			done, err := c.Checkpoints().Wait(t.Context(), cp.ID)
			require.NoError(t, err)
			require.Equal(t, projection.Cancelled, done.Status)
			require.Eventually(t, func() bool { return intent(t, c, i.ID).Status == projection.Aborted }, 5*time.Second, 5*time.Millisecond)
			require.Equal(t, projection.Pending, checkpoint(t, c, after.ID).Status)
		})
	}
}

func TestLeavesTheImportedAlone(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	old := func(id, typ, payload string) event.Event {
		return event.Event{ID: id, Type: typ, StreamID: "old", Actor: "agent", CorrelationID: "c", Timestamp: time.UnixMilli(1000), Payload: json.RawMessage(payload)}
	}
	_, err := c.Admin().Import(t.Context(), "old", []event.Event{
		old("1", event.CheckpointRequested, `{"id":"cp","decision_point":"?","requested_by":"agent","expires_at":2000}`),
		old("2", event.AgentSpawned, `{"id":"i","timeout_ms":5,"created_at":1000}`),
	}, nil)
	require.NoError(t, err)
	decided, err := sweeper.Sweep(t.Context(), sweeper.Config{Client: c})
	require.NoError(t, err)
	require.Zero(t, decided)
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	fresh := ask(t, c, 100*time.Millisecond)
	_, err = c.Checkpoints().Wait(t.Context(), fresh.ID) // it sweeps
	require.NoError(t, err)
	r, err := c.Resume(t.Context())
	require.NoError(t, err)
	require.Len(t, r.PendingCheckpoints, 1)
	require.True(t, r.PendingCheckpoints[0].Overdue)
	require.Len(t, r.ActiveIntents, 1)
	require.True(t, r.ActiveIntents[0].Overdue)

	cps, is, err := c.Deadlines().ExpireImported(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{cps, is})
	require.Equal(t, projection.Expired, checkpoint(t, c, "cp").Status)
	require.Equal(t, "timeout", intent(t, c, "i").Reason)
	cps, is, err = c.Deadlines().ExpireImported(t.Context())
	require.NoError(t, err)
	require.Zero(t, cps+is)
}

// One that cannot be decided is told of, and holds up no other.
func TestOneThatCannotBeDecidedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.Client
	stuck, fine := ask(t, c, 100*time.Millisecond), ask(t, c, 100*time.Millisecond)
	// Junk on its guard: this one can never be decided.
	_, err := h.Admin(t).PublishMsg(t.Context(), wire.EncodeGuard(wire.GuardSubject(event.GuardCheckpoint, stuck.ID), []byte("junk")))
	require.NoError(t, err)
	log := &brokertest.Words{}
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{}), Logger: slog.New(slog.NewTextHandler(log, nil))})
	done, err := c.Checkpoints().Wait(t.Context(), fine.ID)
	require.NoError(t, err)
	require.Equal(t, projection.Expired, done.Status)
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte(stuck.ID)) }, 5*time.Second, 5*time.Millisecond)
	// Nor does it keep a host from starting.
	passed(t, stuck.ExpiresAt.Time)
	_, err = sweeper.Sweep(t.Context(), sweeper.Config{Client: c})
	require.NoError(t, err)
}

func TestRunAcrossRestarts(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	run(t, sweeper.Config{Client: h.NewClient(t, client.Config{})})
	for n := range 3 {
		cp := ask(t, h.Client, 100*time.Millisecond)
		h.Restart(t)
		done, err := h.Client.Checkpoints().Wait(t.Context(), cp.ID)
		require.NoError(t, err, fmt.Sprint(n))
		require.Equal(t, projection.Expired, done.Status)
	}
}

func TestRunEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc := h.Connect(t)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	defer c.Close()
	done := make(chan error, 1)
	go func() { done <- sweeper.Run(t.Context(), sweeper.Config{Client: c}) }()
	nc.Close()
	require.ErrorIs(t, <-done, client.ErrClosed)
}
