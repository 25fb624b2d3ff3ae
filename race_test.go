package durablestream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

// Many race for one decision, over several connections. What the log then holds is
// judged by a check that is shown, with the guard taken off, to object.

const (
	deciders  = 100
	claimants = 50
)

// raceRounds is DSTREAM_RACE_ROUNDS, or def.
func raceRounds(t *testing.T, def int) int {
	t.Helper()
	s := os.Getenv("DSTREAM_RACE_ROUNDS")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// field is a log to race on: several clients, each over a connection of its own.
type field struct {
	clients []*client.Client
	raw     []*nats.Conn // for writers that bypass the guard
}

// newField makes five clients by a host's methods, or a cluster's.
func newField(t *testing.T, newClient func(testing.TB, client.Config) *client.Client, connect func(testing.TB) *nats.Conn) field {
	t.Helper()
	var f field
	for range 5 {
		f.clients = append(f.clients, newClient(t, client.Config{}))
		f.raw = append(f.raw, connect(t))
	}
	return f
}

func clusterField(t *testing.T) field {
	t.Helper()
	cl := brokertest.StartCluster(t)
	return newField(t, cl.NewClient, cl.Connect)
}

// eachField runs a test on one host and on a cluster, with how many rounds it takes.
func eachField(t *testing.T, test func(t *testing.T, f field, rounds int)) {
	t.Helper()
	t.Run("R1", func(t *testing.T) {
		t.Parallel()
		h := brokertest.Start(t)
		test(t, newField(t, h.NewClient, h.Connect), raceRounds(t, longtest.Pick(1, 3)))
	})
	t.Run("R3", func(t *testing.T) {
		longtest.Only(t, "TestOneDecidesThoughTheLeaderStops has such a race on three nodes")
		t.Parallel()
		test(t, clusterField(t), raceRounds(t, 1))
	})
}

// atOnce runs n racers that start together, and waits for them.
func atOnce(n int, run func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			run(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// messages reads all that is stored after a Sequence, up to the leader's present
// end: a replica that lags is asked again until it has it.
func (f field) messages(t *testing.T, after event.Sequence) []client.Message {
	t.Helper()
	end, err := f.clients[0].Position(t.Context())
	require.NoError(t, err)
	for {
		var out []client.Message
		at := after
		for m, err := range f.clients[0].Feed(t.Context(), client.FeedConfig{After: after, Until: end}) {
			require.NoError(t, err)
			out, at = append(out, m), m.Seq
		}
		if at >= end {
			return out
		}
	}
}

// verdict is one racer's answer.
type verdict struct {
	got projection.Checkpoint
	err error
}

// checkDecidedOnce holds the answers of a race for checkpoint id against the log.
func checkDecidedOnce(id string, stored []client.Message, answers []verdict) error {
	var decisions []event.Recorded
	for _, m := range stored {
		if r, err := wire.Decode(m.Subject, m.Data, m.Seq); err == nil {
			if of, _, err := projection.NewDecision(r); err == nil && of == id {
				decisions = append(decisions, r)
			}
		}
	}
	if len(decisions) != 1 {
		return fmt.Errorf("%d decision events in the log", len(decisions))
	}
	_, stands, err := projection.NewDecision(decisions[0])
	if err != nil {
		return err
	}
	winners := 0
	for i, a := range answers {
		var late *client.DecidedError
		got := a.got.Decision
		switch {
		case a.err == nil:
			winners++
		case errors.As(a.err, &late):
			got = late.Checkpoint.Decision
		default:
			return fmt.Errorf("racer %d: %w", i, a.err)
		}
		if got == nil || got.EventID != stands.EventID || got.Seq != stands.Seq || got.Status != stands.Status || got.By != stands.By {
			return fmt.Errorf("racer %d was told %+v (error %v), and %+v stands", i, got, a.err, stands)
		}
		if a.err == nil && got.By != racer(i) {
			return fmt.Errorf("racer %d was told that its own decision stands, which is %s's", i, got.By)
		}
	}
	if winners != 1 {
		return fmt.Errorf("%d racers were told that they decided", winners)
	}
	return nil
}

func racer(i int) string { return fmt.Sprintf("human-%d", i) }

// raceToDecide runs one round and returns the check's objection.
func (f field) raceToDecide(t *testing.T, id string, decide func(ctx context.Context, i int, cp projection.Checkpoint) (projection.Checkpoint, error)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cp, err := f.clients[0].Checkpoints().Request(ctx, client.CheckpointRequest{
		ID: id, StreamID: "ses_race", RequestedBy: "agent", DecisionPoint: "deploy?",
		Options: []event.Option{{ID: "yes", Label: "Yes"}, {ID: "later", Label: "Later"}},
	})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	answers := make([]verdict, deciders)
	atOnce(deciders, func(i int) { answers[i].got, answers[i].err = decide(ctx, i, cp) })
	return checkDecidedOnce(id, f.messages(t, cp.Seq), answers)
}

// guarded is how everybody decides: approvers and rejecters in turn.
func (f field) guarded(ctx context.Context, i int, cp projection.Checkpoint) (projection.Checkpoint, error) {
	c := f.clients[i%len(f.clients)]
	switch i % 4 {
	case 0:
		return c.Checkpoints().Approve(ctx, cp.ID, client.Approval{By: racer(i), Option: "yes"})
	case 1:
		return c.Checkpoints().Approve(ctx, cp.ID, client.Approval{By: racer(i), Option: "later"})
	default:
		return c.Checkpoints().Reject(ctx, cp.ID, client.Rejection{By: racer(i), Reason: "no"})
	}
}

// unguarded decides by publishing the very same event without its guard.
func (f field) unguarded(ctx context.Context, i int, cp projection.Checkpoint) (projection.Checkpoint, error) {
	payload, err := json.Marshal(event.Rejected{CheckpointID: cp.ID, RejectedBy: racer(i)})
	if err != nil {
		return cp, err
	}
	r := event.Recorded{Event: event.Event{
		ID: event.NewID(), Type: event.CheckpointRejected, StreamID: cp.StreamID, Actor: racer(i),
		CorrelationID: cp.CorrelationID, Timestamp: event.Now(), Payload: payload,
	}}
	answer, err := f.raw[i%len(f.raw)].RequestMsgWithContext(ctx, wire.Encode(r))
	if err != nil {
		return cp, err
	}
	var ack struct{ Seq event.Sequence }
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return cp, err
	}
	r.Seq = ack.Seq
	_, d, err := projection.NewDecision(r)
	cp.Decision, cp.Status = &d, d.Status
	return cp, err
}

func TestOneOfAHundredDecides(t *testing.T) {
	t.Parallel()
	eachField(t, func(t *testing.T, f field, rounds int) {
		start := time.Now()
		for i := range rounds {
			require.NoError(t, f.raceToDecide(t, fmt.Sprintf("cp_%d", i), f.guarded), "round %d", i+1)
		}
		t.Logf("%d rounds of %d in %v", rounds, deciders, time.Since(start).Round(time.Millisecond))
		// The control: without the guard the same check objects.
		err := f.raceToDecide(t, "cp_unguarded", f.unguarded)
		require.EqualError(t, err, "100 decision events in the log")
		// And none of these hundred counts.
		cp, err := f.clients[0].Checkpoints().Get(t.Context(), "cp_unguarded")
		require.NoError(t, err)
		require.Equal(t, projection.Pending, cp.Status)
	})
}

// claimed is one claimant's answer.
type claimed struct {
	lease client.Lease
	err   error
}

// checkClaimedOnce holds the answers of a race for an intent against the log.
func checkClaimedOnce(id string, stored []client.Message, answers []claimed) error {
	var claims []client.Message
	for _, m := range stored {
		var b wire.GuardBody
		if m.Subject == wire.GuardSubject(event.GuardIntent, id) && json.Unmarshal(m.Data, &b) == nil && b.State == event.StateClaimed {
			claims = append(claims, m)
		}
	}
	if len(claims) != 1 {
		return fmt.Errorf("%d claims in the log", len(claims))
	}
	winner := ""
	for i, a := range answers {
		if a.err != nil {
			continue
		}
		if winner != "" {
			return fmt.Errorf("%s and %s were both told that they hold it", winner, racer(i))
		}
		if winner = racer(i); a.lease.Token != claims[0].Seq {
			return fmt.Errorf("%s holds it under %d, and the claim is at %d", winner, a.lease.Token, claims[0].Seq)
		}
	}
	for i, a := range answers {
		var held *client.HeldError
		switch {
		case a.err == nil:
		case !errors.As(a.err, &held):
			return fmt.Errorf("claimant %d: %w", i, a.err)
		case held.Intent.Holder != winner || held.Intent.Token != claims[0].Seq:
			return fmt.Errorf("claimant %d was told that %s holds it (%d), and it is %s (%d)",
				i, held.Intent.Holder, held.Intent.Token, winner, claims[0].Seq)
		}
	}
	return nil
}

func (f field) raceToClaim(t *testing.T, id string, claim func(ctx context.Context, i int) (client.Lease, error)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	x, err := f.clients[0].Intents().Create(ctx, client.IntentSpec{ID: id, StreamID: "ses_race", Actor: "agent"})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	answers := make([]claimed, claimants)
	atOnce(claimants, func(i int) { answers[i].lease, answers[i].err = claim(ctx, i) })
	return checkClaimedOnce(id, f.messages(t, x.Seq), answers)
}

func TestOneOfFiftyClaims(t *testing.T) {
	t.Parallel()
	eachField(t, func(t *testing.T, f field, rounds int) {
		start := time.Now()
		for i := range rounds {
			id := fmt.Sprintf("intent_%d", i)
			require.NoError(t, f.raceToClaim(t, id, func(ctx context.Context, i int) (client.Lease, error) {
				return f.clients[i%len(f.clients)].Intents().Claim(ctx, id, racer(i), time.Minute)
			}), "round %d", i+1)
		}
		t.Logf("%d rounds of %d in %v", rounds, claimants, time.Since(start).Round(time.Millisecond))
		// The control: claims that expect nothing.
		err := f.raceToClaim(t, "intent_unguarded", func(ctx context.Context, i int) (client.Lease, error) {
			body := wire.GuardBody{Event: event.NewID(), State: event.StateClaimed, Holder: racer(i), Lease: 60_000}
			_, err := f.raw[i%len(f.raw)].RequestMsgWithContext(ctx, wire.EncodeGuard(wire.GuardSubject(event.GuardIntent, "intent_unguarded"), body.Encode()))
			return client.Lease{}, err
		})
		require.EqualError(t, err, "50 claims in the log")
	})
}

// The leader stops in the middle of a race: still there is one decision, and all callers
// get it.
func TestOneDecidesThoughTheLeaderStops(t *testing.T) {
	t.Parallel()
	cl := brokertest.StartCluster(t)
	var f field
	for range 5 {
		f.clients = append(f.clients, cl.NewClient(t, client.Config{}))
	}
	for n := range raceRounds(t, 1) {
		leader := -1
		require.NoError(t, f.raceToDecide(t, fmt.Sprintf("cp_%d", n), func(ctx context.Context, i int, cp projection.Checkpoint) (projection.Checkpoint, error) {
			if i == 0 {
				if leader = cl.Leader(); leader >= 0 {
					cl.Stop(t, leader)
				}
			}
			return f.guarded(ctx, i, cp)
		}))
		require.GreaterOrEqual(t, leader, 0)
		cl.Start(t, leader)
		require.Eventually(t, func() bool { return cl.Leader() >= 0 }, 20*time.Second, time.Millisecond)
	}
}

// In a cluster a replica may lag. What was acknowledged to any process is visible to
// every later request: an id that was used, a guard, a request.
func TestClusterReadsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	f := clusterField(t)
	for k := range f.clients { // several at once, so that replicas have something to lag behind
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			for n := range longtest.Pick(2, 25) {
				f.readsWhatWasAcknowledged(t, f.clients[k], f.clients[(k+1)%len(f.clients)], fmt.Sprintf("%d.%d", k, n))
			}
		})
	}
}

func (f field) readsWhatWasAcknowledged(t *testing.T, a, b *client.Client, n string) {
	t.Helper()
	ctx := t.Context()
	e := event.Event{ID: event.NewID(), Type: "task.created", StreamID: "s", Actor: "a", Timestamp: event.Now(), CorrelationID: "c"}
	r, err := a.Append(ctx, e)
	require.NoError(t, err)
	again, err := b.Append(ctx, e)
	require.NoError(t, err, "round %s", n)
	require.Equal(t, r, again)

	guard := client.Guard{Name: n}
	at, rs, err := a.AppendGuarded(ctx, guard, event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	_, _, err = b.AppendGuarded(ctx, guard, event.Event{Type: "task.created", StreamID: "s", Actor: "b"})
	var conflict *client.ConflictError
	require.ErrorAs(t, err, &conflict, "round %s", n)
	require.Equal(t, at, conflict.Seq)
	require.Equal(t, &rs[0], conflict.Winner)
	position, err := b.GuardPosition(ctx, guard.Name)
	require.NoError(t, err)
	require.Equal(t, at, position)

	cp, err := a.Checkpoints().Request(ctx, client.CheckpointRequest{StreamID: "s", RequestedBy: "agent", DecisionPoint: "?"})
	require.NoError(t, err, "round %s", n)
	decided, err := b.Checkpoints().Approve(ctx, cp.ID, client.Approval{By: "ann"})
	require.NoError(t, err, "round %s", n)
	waited, err := a.Checkpoints().Wait(ctx, cp.ID)
	require.NoError(t, err, "round %s", n)
	require.Equal(t, decided, waited)

	i, err := a.Intents().Create(ctx, client.IntentSpec{StreamID: "s", Actor: "a"})
	require.NoError(t, err, "round %s", n)
	l, err := b.Intents().Claim(ctx, i.ID, "b", time.Hour)
	require.NoError(t, err, "round %s", n)
	l, err = b.Intents().Renew(ctx, l)
	require.NoError(t, err, "round %s", n)
	_, err = a.Intents().Complete(ctx, i.ID, client.End{By: "b", Token: l.Token})
	require.NoError(t, err, "round %s", n)
	_, err = b.Intents().Claim(ctx, i.ID, "b", time.Hour)
	require.ErrorIs(t, err, client.ErrIntentEnded, "round %s", n)
}
