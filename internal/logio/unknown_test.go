package logio_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
)

// The context ends before an answer can come: only then is the outcome unknown, and
// the same append again tells.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	for way := range appends {
		for _, isStored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stored %v", way, isStored), func(t *testing.T) {
				t.Parallel()
				h := brokertest.Start(t)
				p := h.Proxy(t)
				c := open(t, p.Connect(t), logio.Config{})
				es := withIDs(numbered(3))
				arm := p.HoldRequests
				if isStored {
					arm = p.LoseAnswers
				}
				fault := arm(marker(way))
				ctx, cancel := context.WithCancel(t.Context())
				done := begin(ctx, way, c, es)
				wait(t, fault.Met())
				if isStored {
					reaches(t, h, size(way))
				}
				cancel()
				res := wait(t, done)
				require.ErrorIs(t, res.err, event.ErrUnknownOutcome)
				require.ErrorIs(t, res.err, context.Canceled)

				p.Cut()
				again := wait(t, begin(within(t, 20*time.Second), way, c, es))
				stored(t, h, again)
				require.EqualValues(t, 1, again.rs[0].Seq)
			})
		}
	}
}

// The client searches for a batch whose ids are known; if the search cannot end, the
// owner of the events is unknown.
func TestUnknownOutcomeOfALook(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			es := withIDs(numbered(3))
			first := wait(t, begin(t.Context(), way, h.Client, es))
			stored(t, h, first)
			c := open(t, p.Connect(t), logio.Config{})
			read := "$JS.API.DIRECT.GET"
			if h.Replicated() {
				read = "$JS.API.STREAM.MSG.GET" // from the leader
			}
			fault := p.HoldRequests(read)
			ctx, cancel := context.WithCancel(t.Context())
			done := begin(ctx, way, c, es)
			wait(t, fault.Met())
			cancel()
			res := wait(t, done)
			require.ErrorIs(t, res.err, context.Canceled)
			require.ErrorIs(t, res.err, event.ErrUnknownOutcome)
		})
	}
}

// A connection that its owner closes while an append is on its way.
func TestClosedWhileAppending(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			nc := p.Connect(t)
			c := open(t, nc, logio.Config{})
			lost := p.LoseAnswers(marker(way))
			done := begin(t.Context(), way, c, numbered(3))
			wait(t, lost.Met())
			nc.Close()
			res := wait(t, done)
			require.ErrorIs(t, res.err, event.ErrClosed)
			require.ErrorIs(t, res.err, event.ErrUnknownOutcome, "which is the truth")
		})
	}
}
