package faults

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/projection"
)

// TestFaultsFalseClock runs this test's own program, and the hosts, with a wall clock that
// jumps: two hours back, and one day forward.
func TestFaultsFalseClock(t *testing.T) {
	if os.Getenv("DSTREAM_FAULTS") == "" {
		t.Skip("skipped: it builds everything anew with another package time: make faults")
	}
	if ownClock() != nil {
		t.Run("one host", falseClockRun)
		t.Run("leases, expiries and deduplication", falseClockDeadlines)
		return
	}
	dir := t.TempDir()
	overlay, err := writeOverlay(t.Context(), dir)
	require.NoError(t, err)
	bin := filepath.Join(dir, "faults.test")
	out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", bin, "durablestream/internal/faults").CombinedOutput()
	require.NoError(t, err, "%s", out)
	clock := &falseClock{file: filepath.Join(dir, "clock")}
	require.NoError(t, clock.jump(0))
	cmd := exec.Command(bin, "-test.run", "^TestFaultsFalseClock$", "-test.v", "-test.timeout", "1h")
	cmd.Env = append(os.Environ(), clockEnv+"="+clock.file, overlayEnv+"="+overlay)
	out, err = cmd.CombinedOutput()
	t.Logf("with a false clock:\n%s", out)
	require.NoError(t, err)
}

// falseClockRun makes jumps among kills, so that appends are tried again across them.
func falseClockRun(t *testing.T) {
	bin := program(t)
	seed, err := SeedFrom("SEED")
	require.NoError(t, err)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	s.clock = ownClock()
	t.Logf("SEED=%d", seed)
	rep, err := Run(t.Context(), Config{
		System: s, Seed: seed, Length: length(t) / 2, Clients: 6, Pace: 2 * time.Millisecond, Say: t.Logf,
		Kinds: regexp.MustCompile("^(clock.*|kill the leader|stop one)$"),
	})
	require.NoError(t, err)
	t.Log("\n" + Table([]string{"false clock"}, []*Report{rep}))
	require.Empty(t, rep.Problems)
}

func falseClockDeadlines(t *testing.T) {
	clock := ownClock()
	bin := program(t)
	s := NewHost(bin, filepath.Join(t.TempDir(), ".opencode"))
	require.NoError(t, s.Start())
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.ready(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, end, err := s.Client(ctx)
	require.NoError(t, err)
	defer end()

	e := event.Event{ID: "e_1", Type: "fault.event", StreamID: "s", Actor: "a", Payload: []byte(`{"n":1}`)}
	first, err := c.Append(ctx, e)
	require.NoError(t, err)
	for _, id := range []string{"in_1", "in_2"} {
		_, err = c.Intents().Create(ctx, client.IntentSpec{ID: id, StreamID: "s", Actor: "a", Timeout: map[string]time.Duration{"in_2": 10 * time.Minute}[id]})
		require.NoError(t, err)
	}
	lease, err := c.Intents().Claim(ctx, "in_1", "first", time.Minute)
	require.NoError(t, err)
	_, err = c.Checkpoints().Request(ctx, client.CheckpointRequest{ID: "cp_1", StreamID: "s", RequestedBy: "a", DecisionPoint: "?", ExpiresIn: 10 * time.Minute})
	require.NoError(t, err)

	again := func() {
		t.Helper()
		r, err := c.Append(ctx, e)
		require.NoError(t, err)
		require.Equal(t, first.Seq, r.Seq, "an id is stored once")
	}
	held := func() {
		t.Helper()
		_, err := c.Intents().Claim(ctx, "in_1", "second", time.Minute)
		var held *client.HeldError
		require.ErrorAs(t, err, &held)
		cp, err := c.Checkpoints().Get(ctx, "cp_1")
		require.NoError(t, err)
		require.Nil(t, cp.Decision, "not yet")
	}
	again()
	held()
	require.NoError(t, clock.jump(-2*time.Hour))
	again()
	held()
	n, err := s.Leader(ctx)
	require.NoError(t, err)
	n.Kill()
	require.NoError(t, n.Start())
	again() // what another host knows of ids comes from the disk, with times to come
	held()
	lease, err = c.Intents().Renew(ctx, lease)
	require.NoError(t, err)
	later, err := c.Append(ctx, event.Event{ID: "e_2", Type: "fault.event", StreamID: "s", Actor: "a", Payload: []byte(`{"n":2}`)})
	require.NoError(t, err)
	require.Greater(t, later.Seq, first.Seq)
	require.Less(t, later.Timestamp, first.Timestamp, "the clock was set back")

	require.NoError(t, clock.jump(26*time.Hour))
	require.Eventually(t, func() bool {
		cp, err := c.Checkpoints().Get(ctx, "cp_1")
		return err == nil && cp.Decision != nil && cp.Status == projection.Expired
	}, time.Minute, 20*time.Millisecond, "what is due is decided, whatever timers say")
	require.Eventually(t, func() bool {
		in, err := c.Intents().Get(ctx, "in_2")
		return err == nil && in.Ended()
	}, time.Minute, 20*time.Millisecond)
	_, err = c.Intents().Claim(ctx, "in_1", "second", time.Minute)
	require.NoError(t, err, "the lease ran out")
	_, err = c.Intents().Renew(ctx, lease)
	require.Error(t, err, "another one has it")

	require.NoError(t, clock.jump(-24*time.Hour))
	cp, err := c.Checkpoints().Get(ctx, "cp_1")
	require.NoError(t, err)
	require.Equal(t, projection.Expired, cp.Status, "what is decided stays decided")
	out, code := n.Command(ctx, "status")
	require.Zero(t, code, out)
	out, code = n.Command(ctx, "mirror", "verify")
	require.Zero(t, code, out)
	last := event.Sequence(0)
	for r, err := range c.Query(ctx, event.Filter{StreamID: "s"}) {
		require.NoError(t, err)
		require.Greater(t, r.Seq, last)
		last = r.Seq
	}
}
