package client_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// The ways in which an append can be made: what a fault does to one, it must not do
// to the others.
var appends = map[string]func(context.Context, *client.Client, []event.Event) ([]event.Recorded, error){
	"single": func(ctx context.Context, c *client.Client, es []event.Event) ([]event.Recorded, error) {
		r, err := c.Append(ctx, es[0])
		return []event.Recorded{r}, err
	},
	"batch of one": func(ctx context.Context, c *client.Client, es []event.Event) ([]event.Recorded, error) {
		return c.AppendBatch(ctx, es[:1])
	},
	"batch": func(ctx context.Context, c *client.Client, es []event.Event) ([]event.Recorded, error) {
		return c.AppendBatch(ctx, es)
	},
}

// size is how many of three events each way appends.
func size(way string) int {
	if way == "batch" {
		return 3
	}
	return 1
}

// reaches waits until the Log has come to a Sequence.
func reaches(t *testing.T, h *brokertest.Host, seq int) {
	t.Helper()
	require.Eventually(t, func() bool { return int(position(t, h.Client)) >= seq }, 10*time.Second, time.Millisecond)
}

const commit = wire.HeaderBatchCommit + ": 1"

// marker is a part of the request that stores an append.
func marker(way string) string {
	if way == "batch" {
		return commit
	}
	return brokertest.EventPublish
}

type result struct {
	rs  []event.Recorded
	err error
}

// begin makes an append in a goroutine.
func begin(ctx context.Context, way string, c *client.Client, es []event.Event) <-chan result {
	done := make(chan result, 1)
	go func() {
		rs, err := appends[way](ctx, c, es)
		done <- result{rs, err}
	}()
	return done
}

func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		require.Fail(t, "it does not come")
	}
	return v
}

// stored demands that exactly the events of an append are in the Log, where its
// answer says.
func stored(t *testing.T, h *brokertest.Host, res result) {
	t.Helper()
	require.NoError(t, res.err)
	require.Equal(t, res.rs, query(t, h.Client, event.Filter{}))
}

// The request never reaches the broker.
func TestRequestIsLost(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
			lost := p.HoldRequests(marker(way))
			done := begin(within(t, 20*time.Second), way, c, numbered(3))
			wait(t, lost.Met())
			p.Cut()
			stored(t, h, wait(t, done))
		})
	}
}

// The events are stored, and the answer never comes back.
func TestAnswerIsLost(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
			lost := p.LoseAnswers(marker(way))
			done := begin(within(t, 20*time.Second), way, c, numbered(3))
			wait(t, lost.Met())
			reaches(t, h, size(way))
			p.Cut()
			res := wait(t, done)
			stored(t, h, res)
			require.EqualValues(t, 1, res.rs[0].Seq)
			require.EqualValues(t, size(way), position(t, h.Client), "nothing was stored again")
		})
	}
}

// The broker refuses, for its disk is full, and that answer is lost: the append
// cannot know, so it goes on until there is space, or its context ends.
func TestRefusalIsLost(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the floor of free disk space is our broker's")
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t, func(c *broker.Config) { c.DiskFloor = 1 << 62 })
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
			_, err := appends[way](t.Context(), c, numbered(3))
			require.ErrorIs(t, err, client.ErrDiskFull)
			require.NotErrorIs(t, err, client.ErrUnknownOutcome)

			first := marker(way)
			if way == "batch" {
				first = brokertest.EventPublish // refused at its first message
			}
			lost := p.LoseAnswers(first)
			ctx, cancel := context.WithCancel(t.Context())
			done := begin(ctx, way, c, numbered(3))
			wait(t, lost.Met())
			p.Cut()
			again := p.HoldRequests(first) // it has come back, and tries again
			wait(t, again.Met())
			again.Release(t)
			again = p.HoldRequests(first) // and again: it was refused once more
			wait(t, again.Met())
			cancel()
			res := wait(t, done)
			require.ErrorIs(t, res.err, client.ErrUnknownOutcome)
			require.ErrorIs(t, res.err, client.ErrDiskFull, "it says what it heard last")

			p.Cut()
			lost = p.LoseAnswers(first)
			done = begin(within(t, 20*time.Second), way, c, numbered(3))
			wait(t, lost.Met())
			h.Config.DiskFloor = -1
			h.Restart(t)
			stored(t, h, wait(t, done))
		})
	}
}

// The answer is lost, and with it the broker; the events of another stand behind
// ours when it is back.
func TestAnswerIsLostInARestart(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
			lost := p.LoseAnswers(marker(way))
			done := begin(within(t, 20*time.Second), way, c, numbered(3))
			wait(t, lost.Met())
			reaches(t, h, size(way))
			more, err := h.Client.Append(t.Context(), newEvent(`"more"`))
			require.NoError(t, err)
			h.Restart(t)
			res := wait(t, done)
			res.rs = append(res.rs, more)
			stored(t, h, res)
		})
	}
}

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
				c := p.NewClient(t, client.Config{})
				es := numbered(3)
				for i := range es {
					es[i].ID = event.NewID()
				}
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
				require.ErrorIs(t, res.err, client.ErrUnknownOutcome)
				require.ErrorIs(t, res.err, context.Canceled)

				p.Cut()
				again := wait(t, begin(within(t, 20*time.Second), way, c, es))
				stored(t, h, again)
				require.EqualValues(t, 1, again.rs[0].Seq)
			})
		}
	}
}

// A batch whose ids are known is looked for; when that look cannot end, nobody
// knows whose the events are.
func TestUnknownOutcomeOfALook(t *testing.T) {
	t.Parallel()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			es := numbered(3)
			for i := range es {
				es[i].ID = event.NewID()
			}
			first := wait(t, begin(t.Context(), way, h.Client, es))
			stored(t, h, first)
			c := p.NewClient(t, client.Config{})
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
			require.ErrorIs(t, res.err, client.ErrUnknownOutcome)
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
			c, err := client.New(t.Context(), nc, client.Config{})
			require.NoError(t, err)
			defer c.Close()
			lost := p.LoseAnswers(marker(way))
			done := begin(t.Context(), way, c, numbered(3))
			wait(t, lost.Met())
			nc.Close()
			res := wait(t, done)
			require.ErrorIs(t, res.err, client.ErrClosed)
			require.ErrorIs(t, res.err, client.ErrUnknownOutcome, "which is the truth")
		})
	}
}

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

// The fifth point of the issue: the acknowledgement is lost, and the sender sleeps
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
				c := p.NewClient(t, client.Config{})
				if control {
					c.TrustTheEngine()
				}
				n := size(way)
				require.NoError(t, wait(t, begin(t.Context(), way, c, numbered(3))).err) // something to stand before
				es := numbered(3)
				for i := range es {
					es[i].ID = event.NewID()
				}
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
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t, shortWindow)
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
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
		})
	}
}

// A batch that is late meets a guard that somebody moved meanwhile: it is told so,
// as if it were not late. (An import looks again then, and stores what is missing.)
func TestLateBatchMeetsItsGuard(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t, shortWindow)
	p := h.Proxy(t)
	c := p.NewClient(t, client.Config{})
	imported := func(stream string) []event.Event {
		es := numbered(3)
		for i := range es {
			es[i].ID, es[i].StreamID, es[i].CorrelationID, es[i].Timestamp = event.NewID(), stream, "c", 1
		}
		return es
	}
	lost := p.HoldRequests(commit)
	done := make(chan client.ImportReport, 1)
	go func() {
		report, err := c.Import(within(t, 20*time.Second), "name", imported("mine"), nil)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	wait(t, lost.Met())
	theirs := imported("theirs")
	_, err := h.Client.Import(t.Context(), "name", theirs, nil)
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
	c := p.NewClient(t, client.Config{})
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
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t, shortWindow)
			p := h.Proxy(t)
			c := p.NewClient(t, client.Config{})
			es := numbered(3)
			for i := range es {
				es[i].ID = event.NewID()
			}
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
		})
	}
}

// dealtWith waits until the Log has taken or refused what was released: an append
// that comes after it is stored. That is one more event.
func dealtWith(t *testing.T, h *brokertest.Host, f *brokertest.Fault) {
	t.Helper()
	wait(t, f.Done())
	_, err := h.Client.Append(t.Context(), newEvent(`"after"`))
	require.NoError(t, err)
}

// Answers are held up for longer than a reader's heartbeat, and then come: nothing
// is brought twice and nothing is missing.
func TestStalledAnswers(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	p := h.Proxy(t)
	c := p.NewClient(t, client.Config{})
	s := subscribe(t, c, event.Filter{})
	rs, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	require.Equal(t, rs, s.next(t, 10))
	old := consumers(t, h)
	require.Len(t, old, 1)
	p.StallAnswers()
	done := begin(within(t, 30*time.Second), "single", c, numbered(1))
	reaches(t, h, 11)
	more, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)
	// The reader notices that no heartbeat comes, and leaves its consumer.
	require.Eventually(t, func() bool { return !slices.Contains(consumers(t, h), old[0]) }, 20*time.Second, 10*time.Millisecond)
	p.Resume()
	res := wait(t, done)
	require.NoError(t, res.err)
	require.Equal(t, append(res.rs, more...), s.next(t, 11))
	s.ended(t)
	stored(t, h, result{append(append(rs, res.rs...), more...), nil})
}
