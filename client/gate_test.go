package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
	"durablestream/projection"
)

const gateID = "cp"

var gateSubject = wire.GuardSubject(event.GuardCheckpoint, gateID)

func askGate(t *testing.T, c *client.Client) {
	t.Helper()
	_, err := c.Checkpoints().Request(t.Context(), client.CheckpointRequest{ID: gateID, StreamID: "s", RequestedBy: "a", DecisionPoint: "?"})
	require.NoError(t, err)
}

// byHand publishes a message that has passed no rules.
func byHand(t *testing.T, h *brokertest.Host, subject, body string) {
	t.Helper()
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), wire.EncodeGuard(subject, []byte(body)))
	require.NoError(t, err)
}

// requireAgree checks that a reader of one checkpoint and all folds see the same state,
// and returns it.
func requireAgree(t *testing.T, c *client.Client) projection.Checkpoint {
	t.Helper()
	one, err := c.Checkpoints().Get(t.Context(), gateID)
	var blocked *client.BlockedError
	if errors.As(err, &blocked) {
		require.Equal(t, one.Blocked, blocked.Seq)
		err = nil
	}
	require.NoError(t, err)
	all, err := c.Checkpoints().List(t.Context(), false)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, one, all[0])
	return one
}

// A guard that was written by hand keeps a question from being decided until it is voided;
// then it is decided once.
func TestVoidGuard(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(t *testing.T, h *brokertest.Host){
		"a bare guard":                 func(t *testing.T, h *brokertest.Host) { byHand(t, h, gateSubject, "{}") },
		"one that is no JSON":          func(t *testing.T, h *brokertest.Host) { byHand(t, h, gateSubject, "x") },
		"one that names a later event": func(t *testing.T, h *brokertest.Host) { byHand(t, h, gateSubject, `{"event":"later"}`) },
		"several": func(t *testing.T, h *brokertest.Host) {
			byHand(t, h, gateSubject, "{}")
			byHand(t, h, gateSubject, `{"event":"x"}`)
		},
		"one with another's event": func(t *testing.T, h *brokertest.Host) {
			byHand(t, h, gateSubject, `{"event":"x"}`)
			storePlain(t, h, "x", event.CheckpointApproved, `{"checkpoint_id":"other"}`)
		},
		"one with an event of no weight": func(t *testing.T, h *brokertest.Host) {
			byHand(t, h, gateSubject, `{"event":"x"}`)
			storePlain(t, h, "x", "a.b", `{"checkpoint_id":"cp"}`)
		},
		"a decision behind a bare one": func(t *testing.T, h *brokertest.Host) {
			byHand(t, h, gateSubject, "{}")
			byHand(t, h, gateSubject, `{"event":"x"}`)
			storePlain(t, h, "x", event.CheckpointApproved, `{"checkpoint_id":"cp","approved_by":"nobody"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			c := h.Client
			askGate(t, c)
			_, err := c.Admin().VoidGuard(t.Context(), gateID, "op", "")
			var invalid *event.InvalidError
			require.ErrorAs(t, err, &invalid, "there is nothing to void")
			write(t, h)
			cp := requireAgree(t, c)
			require.Equal(t, projection.Pending, cp.Status)
			require.NotZero(t, cp.Blocked)
			_, err = c.Checkpoints().Approve(t.Context(), gateID, client.Approval{By: "h"})
			require.ErrorIs(t, err, client.ErrBlocked)
			require.ErrorContains(t, err, "void-guard")
			storePlain(t, h, "between", "a.b", "1")
			storePlain(t, h, "later", event.CheckpointApproved, `{"checkpoint_id":"cp"}`)
			require.NotZero(t, requireAgree(t, c).Blocked, "an event that is not right behind the guard")

			cp, err = c.Admin().VoidGuard(t.Context(), gateID, "op", "written by hand")
			require.NoError(t, err)
			require.Equal(t, projection.Pending, cp.Status)
			require.Zero(t, requireAgree(t, c).Blocked)
			_, err = c.Admin().VoidGuard(t.Context(), gateID, "op", "")
			require.ErrorAs(t, err, &invalid, "it is void already")
			cp, err = c.Checkpoints().Reject(t.Context(), gateID, client.Rejection{By: "h", Reason: "no"})
			require.NoError(t, err)
			require.Equal(t, cp.Decision, requireAgree(t, c).Decision)
			require.Equal(t, projection.Rejected, cp.Status)
			for _, again := range []func() error{
				func() error {
					_, err := c.Checkpoints().Approve(t.Context(), gateID, client.Approval{By: "h"})
					return err
				},
				func() error { _, err := c.Admin().VoidGuard(t.Context(), gateID, "op", ""); return err },
			} {
				require.ErrorIs(t, again(), client.ErrDecided)
			}
			byHand(t, h, gateSubject, "{}") // too late to block anything
			require.Equal(t, cp.Decision, requireAgree(t, c).Decision)
		})
	}
}

// A guard from before the question blocks it, and can be voided.
func TestVoidGuardFromBefore(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	byHand(t, h, gateSubject, `{"event":"x"}`)
	storePlain(t, h, "x", event.CheckpointApproved, `{"checkpoint_id":"cp"}`)
	_, err := h.Client.Checkpoints().Request(t.Context(), client.CheckpointRequest{ID: gateID, StreamID: "s", RequestedBy: "a", DecisionPoint: "?"})
	require.ErrorIs(t, err, client.ErrBlocked)
	require.NotZero(t, requireAgree(t, h.Client).Blocked)
	_, err = h.Client.Admin().VoidGuard(t.Context(), gateID, "op", "")
	require.NoError(t, err)
	_, err = h.Client.Checkpoints().Approve(t.Context(), gateID, client.Approval{By: "h"})
	require.NoError(t, err)
	require.Equal(t, projection.Approved, requireAgree(t, h.Client).Status)
}

// storePlain publishes an event without a guard.
func storePlain(t *testing.T, h *brokertest.Host, id, typ, payload string) {
	t.Helper()
	e := newEvent(payload)
	e.ID, e.Type, e.CorrelationID, e.Timestamp = id, typ, "c", time.UnixMilli(1)
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), wire.Encode(event.Recorded{Event: e}))
	require.NoError(t, err)
}

// With concurrent voids and decisions, there is one decision, all callers get the same
// one, and no caller is told wrongly that its decision was stored.
func TestVoidAndDecideAtOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	askGate(t, h.Client)
	waited := make(chan projection.Checkpoint, 1)
	go func() {
		cp, err := h.Client.Checkpoints().Wait(context.WithoutCancel(t.Context()), gateID)
		if err == nil {
			waited <- cp
		}
	}()
	byHand(t, h, gateSubject, "{}")
	const each = 8
	var wg sync.WaitGroup
	voided, approved := make(chan string, each), make(chan event.Sequence, each)
	for i := range each {
		c := h.NewClient(t, client.Config{})
		wg.Go(func() {
			if _, err := c.Admin().VoidGuard(t.Context(), gateID, fmt.Sprint("op", i), ""); err == nil {
				voided <- fmt.Sprint("op", i)
			}
		})
		wg.Go(func() {
			for t.Context().Err() == nil {
				cp, err := c.Checkpoints().Approve(t.Context(), gateID, client.Approval{By: fmt.Sprint("h", i)})
				var conflict *client.ConflictError
				switch {
				case err == nil:
					approved <- cp.Decision.Seq
					return
				case errors.Is(err, client.ErrBlocked), errors.As(err, &conflict):
					continue // not yet
				default:
					if !errors.Is(err, client.ErrDecided) {
						t.Errorf("%d: %v", i, err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, approved, 1)
	cp := requireAgree(t, h.Client)
	require.Equal(t, cp.Decision.Seq, <-approved)
	select {
	case heard := <-waited:
		require.Equal(t, cp.Decision, heard.Decision)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the waiter heard nothing")
	}
	n := 0
	for _, r := range query(t, h.Client, event.Filter{Types: []string{"checkpoint.*"}}) {
		if r.Type == event.CheckpointGuardVoided {
			n++
		}
	}
	require.Equal(t, 1, n, "one void is enough, and the others are told so")
}

// Whatever is written by hand, in whatever order: one reader and all readers see the same,
// and what is decided stays so.
func TestGateIsReadTheSameByAll(t *testing.T) {
	t.Parallel()
	for seed := range longtest.Pick[uint64](4, 12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			askGate(t, h.Client)
			r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
			var decided *projection.Decision
			for n := range 14 {
				id := fmt.Sprint("e", n)
				switch r.IntN(6) {
				case 0:
					byHand(t, h, gateSubject, "{}")
				case 1:
					byHand(t, h, gateSubject, `{"event":"`+id+`"}`)
					storePlain(t, h, id, event.CheckpointApproved, `{"checkpoint_id":"cp"}`)
				case 2:
					byHand(t, h, gateSubject, `{"event":"`+id+`"}`)
					storePlain(t, h, id, event.CheckpointGuardVoided, `{"checkpoint_id":"cp"}`)
				case 3:
					storePlain(t, h, id, event.CheckpointRejected, `{"checkpoint_id":"cp"}`)
				case 4:
					_, _ = h.Client.Admin().VoidGuard(t.Context(), gateID, "op", "")
				case 5:
					if r.IntN(3) == 0 {
						_, _ = h.Client.Checkpoints().Reject(t.Context(), gateID, client.Rejection{By: "h", Reason: ""})
					}
				}
				cp := requireAgree(t, h.Client)
				if decided != nil {
					require.Equal(t, decided, cp.Decision, "after %d", n)
				}
				decided = cp.Decision
			}
		})
	}
}
