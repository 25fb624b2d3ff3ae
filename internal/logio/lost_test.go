package logio_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// writer is a journal, or a client.
type writer interface {
	Append(context.Context, event.Event) (event.Recorded, error)
	AppendBatch(context.Context, []event.Event) ([]event.Recorded, error)
}

// The ways in which an append can be made: what a fault does to one, it must not do
// to the others.
var appends = map[string]func(context.Context, writer, []event.Event) ([]event.Recorded, error){
	"single": func(ctx context.Context, c writer, es []event.Event) ([]event.Recorded, error) {
		r, err := c.Append(ctx, es[0])
		return []event.Recorded{r}, err
	},
	"batch of one": func(ctx context.Context, c writer, es []event.Event) ([]event.Recorded, error) {
		return c.AppendBatch(ctx, es[:1])
	},
	"batch": func(ctx context.Context, c writer, es []event.Event) ([]event.Recorded, error) {
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
func begin(ctx context.Context, way string, c writer, es []event.Event) <-chan result {
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

// eachWay runs a test for each way to append, on a host of its own that c reaches
// through p.
func eachWay(t *testing.T, test func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal), configure ...func(*broker.Config)) {
	t.Helper()
	for way := range appends {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t, configure...)
			p := h.Proxy(t)
			test(t, way, h, p, open(t, p.Connect(t), logio.Config{}))
		})
	}
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
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
		lost := p.HoldRequests(marker(way))
		done := begin(within(t, 20*time.Second), way, c, numbered(3))
		wait(t, lost.Met())
		p.Cut()
		stored(t, h, wait(t, done))
	})
}

// The events are stored, and the answer never comes back.
func TestAnswerIsLost(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
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

// The broker refuses because its disk is full, and that answer is lost: the append cannot
// know, so it retries until there is space, or its context ends.
func TestRefusalIsLost(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the floor of free disk space is our broker's")
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
		_, err := appends[way](t.Context(), c, numbered(3))
		require.ErrorIs(t, err, event.ErrDiskFull)
		require.NotErrorIs(t, err, event.ErrUnknownOutcome)

		first := marker(way)
		if way == "batch" {
			first = brokertest.EventPublish // refused at its first message
		}
		lost := p.LoseAnswers(first)
		ctx, cancel := context.WithCancel(t.Context())
		done := begin(ctx, way, c, numbered(3))
		wait(t, lost.Met())
		p.Cut()
		again := p.HoldRequests(first) // it is connected again, and retries
		wait(t, again.Met())
		again.Release(t)
		again = p.HoldRequests(first) // and again: it was refused once more
		wait(t, again.Met())
		cancel()
		res := wait(t, done)
		require.ErrorIs(t, res.err, event.ErrUnknownOutcome)
		require.ErrorIs(t, res.err, event.ErrDiskFull, "it says what it heard last")

		p.Cut()
		lost = p.LoseAnswers(first)
		done = begin(within(t, 20*time.Second), way, c, numbered(3))
		wait(t, lost.Met())
		h.Config.DiskFloor = -1
		h.Restart(t)
		stored(t, h, wait(t, done))
	}, func(c *broker.Config) { c.DiskFloor = 1 << 62 })
}

// The answer is lost, and with it the broker; the events of another stand behind
// ours when it is back.
func TestAnswerIsLostInARestart(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string, h *brokertest.Host, p *brokertest.Proxy, c journal) {
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
