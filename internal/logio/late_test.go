package logio_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

func shortWindow(c *broker.Config) { c.DuplicateWindow = 500 * time.Millisecond }

// pastTheWindow waits until the engine has forgotten an id. It asks with publishes
// that are refused in any case, for naming a last message that is not: whether the
// id is known is looked at before.
func pastTheWindow(t *testing.T, h *brokertest.Host, id string) {
	t.Helper()
	js := h.Admin(t)
	never := jetstream.WithExpectLastMsgID("of no message")
	if h.Replicated() { // which that would stop for good
		never = jetstream.WithExpectLastSequencePerSubject(1 << 40)
	}
	require.Eventually(t, func() bool {
		ack, err := js.Publish(t.Context(), wire.EventSubject("probe.probe", "p"), nil, jetstream.WithMsgID(id), never)
		if err == nil {
			require.True(t, ack.Duplicate)
		}
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)
}

// lastID is the one of n ids stored together that the engine forgets last.
func lastID(es []event.Event, n int) string { return es[n-1].ID }

// The acknowledgement is lost, and the sender sleeps
// past the window in which the engine knows the id. The control switches the late
// path off, and the events are stored twice.
func TestAnswerAfterTheWindow(t *testing.T) {
	t.Parallel()
	for way := range appends {
		for _, control := range []bool{false, true} {
			name := way
			if control {
				name += ", the control"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := brokertest.Start(t, func(c *broker.Config) { c.DuplicateWindow = 2 * time.Second })
				p := h.Proxy(t)
				c := open(t, p.Connect(t), logio.Config{})
				if control {
					c.TrustTheEngine()
				}
				n := size(way)
				require.NoError(t, wait(t, begin(t.Context(), way, c, numbered(3))).err) // something to stand before
				es := withIDs(numbered(3))
				lost := p.LoseAnswers(marker(way))
				done := begin(within(t, 30*time.Second), way, c, es)
				wait(t, lost.Met())
				reaches(t, h, 2*n)
				pastTheWindow(t, h, lastID(es, n))
				p.Cut()
				res := wait(t, done)
				require.NoError(t, res.err)
				log := query(t, h.Client, event.Filter{})
				if control {
					require.Len(t, log, 3*n, "stored twice: the test sees it")
					return
				}
				require.Len(t, log, 2*n, "stored once")
				require.Equal(t, log[n:], res.rs)
			})
		}
	}
}

// The same when the request was lost and not the answer: it is sent again, while
// others write on the same subject, without a pause where it is a single event.
func TestRequestLostUntilAfterTheWindow(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
		lost := p.HoldRequests(marker(way))
		done := begin(within(t, 30*time.Second), way, c, numbered(3))
		wait(t, lost.Met())
		mark, err := h.Client.Append(t.Context(), newEvent(`"another"`))
		require.NoError(t, err)
		pastTheWindow(t, h, mark.ID)

		ctx, cancel := context.WithCancel(t.Context())
		var others []event.Recorded
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		writing, first := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(writing)
			for ctx.Err() == nil {
				if way == "batch" { // it takes milliseconds, in which nothing may come between
					<-pace.C
				}
				if r, err := h.Client.Append(ctx, newEvent(`"another"`)); err == nil {
					if others = append(others, r); len(others) == 1 {
						close(first)
					}
				}
			}
		}()
		wait(t, first)
		p.Cut()
		res := wait(t, done)
		cancel()
		<-writing
		require.NoError(t, res.err)
		var ours []event.Recorded
		for _, r := range query(t, h.Client, event.Filter{}) {
			if string(r.Payload) != `"another"` {
				ours = append(ours, r)
			}
		}
		require.Equal(t, res.rs, ours)
		require.NotEmpty(t, others)
	}, shortWindow)
}

// A late batch meets a guard that was moved meanwhile: it gets the same conflict as a
// batch in time. (An import then reads again, and stores what is missing.)
func TestLateBatchMeetsItsGuard(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t, shortWindow)
	p := h.Proxy(t)
	c := p.NewClient(t, client.Config{})
	imported := func(stream string) []event.Event {
		es := numbered(3)
		for i := range es {
			es[i].ID, es[i].StreamID, es[i].CorrelationID, es[i].Timestamp = event.NewID(), stream, "c", time.UnixMilli(1)
		}
		return es
	}
	lost := p.HoldRequests(commit)
	done := make(chan client.ImportReport, 1)
	go func() {
		report, err := c.Admin().Import(within(t, 20*time.Second), "name", imported("mine"), nil)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	wait(t, lost.Met())
	theirs := imported("theirs")
	_, err := h.Client.Admin().Import(t.Context(), "name", theirs, nil)
	require.NoError(t, err)
	pastTheWindow(t, h, theirs[2].ID)
	p.Cut()
	require.Equal(t, 3, wait(t, done).Stored)
	require.Len(t, query(t, h.Client, event.Filter{}), 6)
}

// After a long silence many appends of one stream are late at once, each in the way
// of the others.
func TestManyLateAppends(t *testing.T) {
	t.Parallel()
	const many = 64
	h := brokertest.Start(t, shortWindow)
	p := h.Proxy(t)
	c := open(t, p.Connect(t), logio.Config{})
	_, err := c.Append(t.Context(), newEvent("0"))
	require.NoError(t, err)
	p.StallAnswers()
	var done []<-chan result
	for i := range many {
		done = append(done, begin(within(t, 30*time.Second), "single", c, []event.Event{newEvent(fmt.Sprint(i + 1))}))
	}
	reaches(t, h, many+1)
	last := query(t, h.Client, event.Filter{Last: 1})
	lost := p.HoldRequests(brokertest.EventPublish)
	done = append(done, begin(within(t, 30*time.Second), "single", c, []event.Event{newEvent(`"lost"`)}))
	wait(t, lost.Met())
	pastTheWindow(t, h, last[0].ID)
	p.Cut()
	p.Resume()
	seen := map[event.Sequence]bool{}
	for _, d := range done {
		res := wait(t, d)
		require.NoError(t, res.err)
		seen[res.rs[0].Seq] = true
	}
	require.Len(t, seen, many+1)
	require.Len(t, query(t, h.Client, event.Filter{}), many+2)
}

// A try that the network holds up arrives after a later one was stored, and after
// the window. It carries the condition of the late path and is refused by it. The
// control takes that condition off: it is stored a second time.
func TestHeldUpTryArrivesLate(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
		es := withIDs(numbered(3))
		first := p.HoldRequests(marker(way)) // lost for good
		done := begin(within(t, 30*time.Second), way, c, es)
		wait(t, first.Met())
		mark, err := h.Client.Append(t.Context(), newEvent(`"mark"`))
		require.NoError(t, err)
		pastTheWindow(t, h, mark.ID)
		second := p.HoldRequests(marker(way)) // late, and held up
		p.Cut()
		wait(t, second.Met())
		p.Cut()
		res := wait(t, done) // the third try was stored
		require.NoError(t, res.err)
		require.Len(t, query(t, h.Client, event.Filter{}), 1+len(res.rs))
		pastTheWindow(t, h, lastID(es, len(res.rs)))

		second.Release(t)
		dealtWith(t, h, second)
		require.Len(t, query(t, h.Client, event.Filter{}), 2+len(res.rs), "refused by its condition")

		first.Release(t) // the control: a try without a condition
		dealtWith(t, h, first)
		require.Len(t, query(t, h.Client, event.Filter{}), 3+2*len(res.rs), "stored again")
	}, shortWindow)
}

// dealtWith waits until the Log has taken or refused what was released: an append
// that comes after it is stored. That is one more event.
func dealtWith(t *testing.T, h *brokertest.Host, f *brokertest.Fault) {
	t.Helper()
	wait(t, f.Done())
	_, err := h.Client.Append(t.Context(), newEvent(`"after"`))
	require.NoError(t, err)
}
