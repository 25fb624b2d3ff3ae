package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// many is a mirror of more events than one batch of a restore holds.
func many(t *testing.T, n int) Config {
	t.Helper()
	h := brokertest.Start(t)
	var events []event.Event
	for i := range n {
		events = append(events, event.Event{ID: fmt.Sprintf("i%d", i), Type: "a.b", StreamID: "s", Actor: "a", CorrelationID: "c", Payload: []byte("1")})
	}
	_, err := h.Client.Admin().Import(t.Context(), "x", events, nil)
	require.NoError(t, err)
	cfg := configOf(t, h)
	catchUp(t, cfg)
	return cfg
}

func TestRestoreIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	n := longtest.Pick(3000, 4500)
	cfg := many(t, n)
	h := brokertest.Start(t, func(c *broker.Config) { c.Restoring = true })
	rc := restoreOf(h, cfg.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	rc.Progress = func(done, total uint64) {
		require.EqualValues(t, n, total)
		if done > 1000 {
			cancel()
		}
	}
	_, err := Restore(ctx, rc)
	require.ErrorIs(t, err, context.Canceled)
	st, err := h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.True(t, wire.IsRestoring(st.Config))
	require.Greater(t, int(st.Messages), 1000)
	require.Less(t, int(st.Messages), n-500)

	_, err = client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorIs(t, err, wire.ErrRestoring, "nobody else gets a half restored Log")
	h.Stop(t)
	if h.Broker != nil {
		h.Config.Restoring = false
		_, err = broker.Start(t.Context(), h.Config)
		require.ErrorIs(t, err, broker.ErrRestoring)
		h.Config.Restoring = true
	}
	h.Boot(t)

	other := many(t, n+500)
	put(t, other.Dir, map[string]string{ActiveName: strings.ReplaceAll(content(t, other.Dir), `"actor":"a"`, `"actor":"b"`)})
	rc.Progress = nil
	rc.From = []string{other.Dir}
	_, err = Restore(t.Context(), rc)
	require.Error(t, err)
	short := many(t, 500)
	rc.From = []string{short.Dir}
	_, err = Restore(t.Context(), rc)
	require.ErrorAs(t, err, new(*ForeignError))
	_, third := small(t, longtest.Pick(300, 3000), -1)
	third.batchBytes = 0
	catchUp(t, third)
	rc.From = []string{third.Dir}
	_, err = Restore(t.Context(), rc)
	require.ErrorAs(t, err, new(*ForeignError))

	rc.From = []string{cfg.Dir}
	report, err := Restore(t.Context(), rc)
	require.NoError(t, err)
	require.True(t, report.Resumed)
	require.EqualValues(t, n, report.Lines)
	cfg.Client = h.Client
	requireEqual(t, cfg)
	st, err = h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.False(t, wire.IsRestoring(st.Config))
}

func TestRestoreSeesAnotherWriter(t *testing.T) {
	t.Parallel()
	cfg := many(t, 4500)
	h := brokertest.Start(t)
	rc := restoreOf(h, cfg.Dir)
	wrote, at := false, event.Sequence(0)
	rc.Progress = func(done, total uint64) {
		if !wrote && done > 1000 {
			wrote = true
			at = position(t, h.Client)
			guard(t, h, wire.GuardSubject(event.GuardUser, "u"))
		}
	}
	_, err := Restore(t.Context(), rc)
	require.ErrorIs(t, err, ErrInterfered)
	require.Equal(t, at+1, position(t, h.Client), "nothing was mixed in")
}

// The answer to a batch is lost, with the connection or the whole broker: it is
// stored once.
func TestRestoreLosesAnswers(t *testing.T) {
	t.Parallel()
	n := longtest.Pick(2600, 4500)
	cfg := many(t, n)
	for _, marker := range longtest.Pick([]string{wire.HeaderBatchCommit}, []string{wire.HeaderBatchCommit, wire.HeaderBatchID, `"id":"i2345"`}) {
		for _, hold := range []bool{false, true} {
			h := brokertest.Start(t)
			proxy := h.Proxy(t)
			rc := restoreOf(h, cfg.Dir)
			rc.Conn = proxy.Connect(t)
			arm := proxy.LoseAnswers
			if hold {
				arm = proxy.HoldRequests
			}
			fault := arm(marker)
			go func() {
				<-fault.Met()
				proxy.Cut()
			}()
			report, err := Restore(t.Context(), rc)
			require.NoError(t, err)
			require.EqualValues(t, n, report.Lines)
			if hold {
				fault.Release(t) // late, and to no effect
			}
			mirror := cfg
			mirror.Client = h.Client
			requireEqual(t, mirror)
			<-fault.Met()
		}
	}
}

// A batch whose answer was lost is seen while the engine stores it.
func TestRestoreWaitsForABatchUnderWay(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	p := newPublisher(h.Client, h.Conn, js, 0)
	subjects := []string{"a", "b", "c"}
	for i, s := range subjects {
		subjects[i] = wire.GuardSubject(event.GuardUser, s)
		require.NoError(t, p.add(t.Context(), wire.EncodeGuard(subjects[i], nil)))
	}
	p.unsure = true
	raw(t, h, subjects[0], nil)
	type answer struct {
		stored bool
		err    error
	}
	settled := make(chan answer, 1)
	go func() {
		stored, err := p.settle(t.Context(), context.DeadlineExceeded)
		settled <- answer{stored, err}
	}()
	select {
	case a := <-settled:
		require.Fail(t, "did not wait", "%+v", a)
	case <-time.After(50 * time.Millisecond): // that nothing comes can only be seen in a while
	}
	raw(t, h, subjects[1], nil)
	raw(t, h, subjects[2], nil)
	require.Equal(t, answer{true, nil}, <-settled)

	p.unsure, p.last = false, 1
	_, err = p.settle(t.Context(), context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrInterfered)
}

func TestRestoreOverARestart(t *testing.T) {
	t.Parallel()
	cfg := many(t, longtest.Pick(2600, 4500))
	h := brokertest.Start(t, func(c *broker.Config) { c.Restoring = true })
	rc := restoreOf(h, cfg.Dir)
	restarted := false
	rc.Progress = func(done, total uint64) {
		if !restarted && done > 1000 {
			restarted = true
			h.Restart(t)
		}
	}
	_, err := Restore(t.Context(), rc)
	require.NoError(t, err)
	cfg.Client = h.Client
	requireEqual(t, cfg)
}

// Two events with one id in the files are no mirror of a Log of ours: the engine
// refuses the batch, and the error says which.
func TestRestoreOfARepeatedID(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 3, -1)
	catchUp(t, cfg)
	var out []byte
	c := origin
	sum := newChainer()
	for l, err := range Lines(cfg.Dir) {
		require.NoError(t, err)
		for i := range event.Sequence(2) {
			out, c = sum.appendLine(out, 2*l.Recorded.Seq+i, l.Body, c)
		}
	}
	put(t, cfg.Dir, map[string]string{ActiveName: string(out)})
	h := brokertest.Start(t)
	_, err := Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.ErrorContains(t, err, "the batch of seq 1 to 9 holds an id twice")
	require.Zero(t, position(t, h.Client))
}
