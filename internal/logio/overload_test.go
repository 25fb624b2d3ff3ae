package logio_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// All of many queries at once end, and with all that there is. They come from several
// clients, each of which has a connection of its own as a process has.
func TestManyQueriesAtOnceEnd(t *testing.T) {
	t.Parallel()
	clients, each := 4, longtest.Pick(300, 1250)
	h := brokertest.Start(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(20))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var ended, wrong atomic.Int64
	var all sync.WaitGroup
	for range clients {
		c := open(t, h.Connect(t), logio.Config{OwnHost: true})
		for range each {
			all.Go(func() {
				n := 0
				for _, err := range c.Query(ctx, event.Filter{Types: []string{"test.*"}}) {
					if err != nil {
						t.Log(err)
						break
					}
					n++
				}
				if n != 20 {
					wrong.Add(1)
				}
				ended.Add(1)
			})
		}
	}
	all.Wait()
	require.EqualValues(t, clients*each, ended.Load())
	require.Zero(t, wrong.Load())
}

// pretended is a Log of 20 events on a server that is not ours, with a client and with a
// connection for a test that answers as a host would.
func pretended(t *testing.T) (l journal, host *nats.Conn) {
	t.Helper()
	h := brokertest.StartLone(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(20))
	require.NoError(t, err)
	return open(t, h.Connect(t), logio.Config{}), h.Connect(t)
}

// answerOn answers on a subject, one question after the other.
func answerOn(t *testing.T, host *nats.Conn, subject string, answer func(*nats.Msg)) {
	t.Helper()
	_, err := host.Subscribe(subject, answer)
	require.NoError(t, err)
	require.NoError(t, host.Flush())
}

// nothingFound is a host's answer that leaves all to the engine.
func nothingFound(t *testing.T, q *nats.Msg) *nats.Msg {
	t.Helper()
	find, err := wire.DecodeFind(q.Data)
	require.NoError(t, err)
	return wire.EncodeFound(wire.Found{Through: find.After}, nil)
}

func TestQueriesShareAnAnswerAboutTheStore(t *testing.T) {
	t.Parallel()
	queries := longtest.Pick(100, 200)
	c, host := pretended(t)
	var read, asked atomic.Int64
	allRead := make(chan struct{})
	answerOn(t, host, wire.CheckSubject(""), func(m *nats.Msg) {
		if asked.Add(1) == 1 { // the others come to ask meanwhile
			select {
			case <-allRead:
			case <-time.After(20 * time.Second): // some may ask before they have read all
			}
		}
		require.NoError(t, m.Respond([]byte("[]")))
	})
	var all sync.WaitGroup
	for range queries {
		all.Go(func() {
			n := 0
			for _, err := range c.Query(t.Context(), event.Filter{Types: []string{"test.*"}}) {
				require.NoError(t, err)
				if n++; n == 20 && read.Add(1) == int64(queries) {
					close(allRead)
				}
			}
			require.Equal(t, 20, n)
		})
	}
	all.Wait()
	require.Less(t, asked.Load(), int64(queries/2))
}

func TestABusyHostIsAskedAgain(t *testing.T) {
	t.Parallel()
	c, host := pretended(t)
	const busy = -1 << 60
	var asked, checked atomic.Int64
	third := make(chan struct{}) // the third question to a host that stays busy
	answerOn(t, host, wire.FindSubject, func(m *nats.Msg) {
		n := asked.Add(1)
		if n == busy+3 {
			close(third)
		}
		if n < 3 {
			require.NoError(t, m.RespondMsg(wire.EncodeBusy(time.Millisecond)))
			return
		}
		require.NoError(t, m.RespondMsg(nothingFound(t, m)))
	})
	answerOn(t, host, wire.CheckSubject(""), func(m *nats.Msg) {
		if checked.Add(1) < 3 {
			require.NoError(t, m.RespondMsg(wire.EncodeBusy(time.Millisecond)))
			return
		}
		require.NoError(t, m.Respond([]byte(`[{"from":2,"to":3}]`)))
	})
	var last error
	for _, err := range c.Query(t.Context(), event.Filter{Types: []string{"test.*"}}) {
		last = err
	}
	require.EqualValues(t, 3, asked.Load())
	require.GreaterOrEqual(t, checked.Load(), int64(3))
	var damage *event.DamageError
	require.ErrorAs(t, last, &damage)

	ctx, cancel := context.WithCancel(t.Context()) // a host that stays busy
	asked.Store(busy)
	go func() { <-third; cancel() }()
	for _, err := range c.Query(ctx, event.Filter{Types: []string{"test.*"}}) {
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
}

func TestAClientAsksSoManyQuestionsAtATime(t *testing.T) {
	t.Parallel()
	const queries = 200
	c, host := pretended(t)
	questions := make(chan *nats.Msg, queries)
	answerOn(t, host, wire.FindSubject, func(m *nats.Msg) { questions <- m })
	var all sync.WaitGroup
	for range queries {
		all.Go(func() {
			for _, err := range c.Query(t.Context(), event.Filter{Types: []string{"test.*"}}) {
				require.NoError(t, err)
			}
		})
	}
	var held []*nats.Msg
	for range logio.FindAtOnce {
		held = append(held, <-questions)
	}
	require.NoError(t, c.Fence(t.Context())) // what was sent before has arrived
	require.NoError(t, host.Flush())
	require.Empty(t, questions)
	for i := range queries {
		if len(held) > 0 {
			require.NoError(t, held[0].RespondMsg(nothingFound(t, held[0])))
			held = held[1:]
		}
		if i < queries-logio.FindAtOnce {
			held = append(held, <-questions)
		}
	}
	all.Wait()
}
