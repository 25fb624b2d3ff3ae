package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// subscription runs a Subscribe until it is stopped, or has brought limit events.
type subscription struct {
	got  chan event.Recorded // buffered: the reader is never held up
	end  chan error          // the last error; nil where the loop ended without one
	stop context.CancelFunc
}

func subscribe(t *testing.T, c *client.Client, f event.Filter) *subscription {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	s := &subscription{make(chan event.Recorded, 100_000), make(chan error, 1), cancel}
	t.Cleanup(cancel)
	go func() {
		var last error
		for r, err := range c.Subscribe(ctx, f) {
			if last = err; err == nil {
				s.got <- r
			}
		}
		close(s.got)
		s.end <- last
	}()
	return s
}

// next waits for n events.
func (s *subscription) next(t *testing.T, n int) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	timeout := time.After(20 * time.Second)
	for len(out) < n {
		select {
		case r, ok := <-s.got:
			if !ok {
				require.Fail(t, "the subscription ended", "%v after %d of %d events", <-s.end, len(out), n)
			}
			out = append(out, r)
		case <-timeout:
			require.Fail(t, "no more events", "%d of %d came", len(out), n)
		}
	}
	return out
}

// ended stops the subscription and demands that nothing else came.
func (s *subscription) ended(t *testing.T) {
	t.Helper()
	s.stop()
	for r := range s.got {
		require.Fail(t, "one event too many", "%+v", r)
	}
	require.ErrorIs(t, <-s.end, context.Canceled)
}

func TestSubscribeFromAnySequence(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	var log []event.Recorded
	write := func(n int) {
		for range n {
			r, err := h.Client.Append(t.Context(), newEvent("1"))
			require.NoError(t, err)
			log = append(log, r)
			_, err = js.Publish(t.Context(), wire.GuardSubject(event.GuardUser, "x"), nil)
			require.NoError(t, err)
		}
	}
	write(20)
	subs := map[event.Sequence]*subscription{}
	for after := range position(t, h.Client) + 1 {
		subs[after] = subscribe(t, h.Client, event.Filter{After: after})
	}
	late := subscribe(t, h.Client, event.Filter{After: 50}) // a position that the Log reaches later
	write(10)
	for after, s := range subs {
		want := reference(log, event.Filter{After: after})
		require.Equal(t, want, s.next(t, len(want)), "after %d", after)
	}
	require.Equal(t, log[25:], late.next(t, 5))
	for _, s := range subs {
		s.ended(t)
	}
	late.ended(t)
	noConsumers(t, h)
}

func TestSubscribeFilters(t *testing.T) {
	t.Parallel()
	h, log := mixedLog(t)
	filters := []event.Filter{
		{Types: []string{"a.*", "a.b", "a.>"}}, {StreamID: "s"}, {Actor: "me"}, {CorrelationID: "ć3"},
		{Since: time.UnixMilli(5), Until: time.UnixMilli(10)}, {StreamID: "ü %", Types: []string{"a.>"}},
	}
	var subs []*subscription
	for _, f := range filters {
		subs = append(subs, subscribe(t, h.Client, f))
	}
	more, err := h.Client.AppendBatch(t.Context(), []event.Event{
		{Type: "a.b", StreamID: "s", Actor: "me", CorrelationID: "ć3", Timestamp: time.UnixMilli(7), Payload: []byte("1")},
		{Type: "a.b", StreamID: "ü %", Actor: "you", Timestamp: time.UnixMilli(4), Payload: []byte("1")},
	})
	require.NoError(t, err)
	log = append(log, more...)
	for i, f := range filters {
		want := reference(log, f)
		require.Equal(t, want, subs[i].next(t, len(want)), "%+v", f)
		subs[i].ended(t)
	}
}

func TestSubscribeLimit(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	rs, err := h.Client.AppendBatch(t.Context(), numbered(5))
	require.NoError(t, err)
	s := subscribe(t, h.Client, event.Filter{Limit: 7})
	require.Equal(t, rs, s.next(t, 5))
	more, err := h.Client.AppendBatch(t.Context(), numbered(5))
	require.NoError(t, err)
	require.Equal(t, more[:2], s.next(t, 2))
	require.NoError(t, <-s.end, "it ends by itself")
	noConsumers(t, h)
}

// Four writers append while the broker is stopped and started again and again:
// subscribers from everywhere see each event once, in order.
func TestSubscribeAcrossRestarts(t *testing.T) {
	t.Parallel()
	const restarts, writers = 5, 4
	h := brokertest.Start(t)
	all := subscribe(t, h.Client, event.Filter{})
	one := subscribe(t, h.NewClient(t, client.Config{}), event.Filter{StreamID: "w1"})
	typed := subscribe(t, h.NewClient(t, client.Config{}), event.Filter{Types: []string{"test.event", "test.*"}, After: 10})

	ctx, cancel := context.WithCancel(within(t, time.Minute))
	var mu sync.Mutex
	acked := map[event.Sequence]event.Recorded{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	var writing sync.WaitGroup
	for w := range writers {
		c := h.NewClient(t, client.Config{})
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				e := newEvent(fmt.Sprint(i))
				e.StreamID = fmt.Sprint("w", w)
				r, err := c.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[r.Seq] = r
				mu.Unlock()
			}
		})
	}
	for range restarts {
		want := count() + 50
		require.Eventually(t, func() bool { return count() >= want }, 20*time.Second, time.Millisecond)
		h.Restart(t)
	}
	want := count() + 50
	require.Eventually(t, func() bool { return count() >= want }, 20*time.Second, time.Millisecond)
	cancel()
	writing.Wait()

	log := query(t, h.Client, event.Filter{})
	require.Len(t, log, len(acked))
	for i, r := range log {
		require.EqualValues(t, i+1, r.Seq)
		require.Equal(t, acked[r.Seq], r)
	}
	require.Equal(t, log, all.next(t, len(log)))
	require.Equal(t, log[10:], typed.next(t, len(log)-10))
	ofOne := reference(log, event.Filter{StreamID: "w1"})
	require.Equal(t, ofOne, one.next(t, len(ofOne)))
	for _, s := range []*subscription{all, one, typed} {
		s.ended(t)
	}
}

// What JetStream refused was never in the Log. The control, a plain subscription,
// sees it: so there was something to see.
func TestSubscribersSeeOnlyWhatWasAccepted(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	s := subscribe(t, h.Client, event.Filter{})
	plain, err := h.Conn.SubscribeSync(wire.AllEvents)
	require.NoError(t, err)
	require.NoError(t, h.Conn.Flush())
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)

	first, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	for _, refuse := range []jetstream.PublishOpt{
		jetstream.WithExpectLastSequence(77), jetstream.WithExpectLastSequencePerSubject(77), jetstream.WithExpectStream("OTHER"),
	} {
		m := wire.Encode(event.Recorded{Event: event.Event{
			ID: event.NewID(), Type: "test.event", StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1), Payload: []byte(`"refused"`),
		}})
		_, err := js.PublishMsg(t.Context(), m, refuse)
		require.Error(t, err)
	}
	last, err := h.Client.Append(t.Context(), newEvent("2"))
	require.NoError(t, err)
	require.Equal(t, []event.Recorded{first, last}, s.next(t, 2))
	s.ended(t)
	for range 5 {
		_, err := plain.NextMsg(5 * time.Second)
		require.NoError(t, err, "the control sees all five")
	}
}

func TestLeavingASubscription(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	rs, err := h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)

	for r, err := range h.Client.Subscribe(within(t, 20*time.Second), event.Filter{}) { // a break
		require.NoError(t, err)
		if r.Seq == 3 {
			break
		}
	}
	noConsumers(t, h)

	ctx, cancel := context.WithCancel(t.Context()) // while it reads
	var errs []error
	for r, err := range h.Client.Subscribe(ctx, event.Filter{}) {
		if err != nil {
			errs = append(errs, err)
		} else if r.Seq == 3 {
			cancel()
		}
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], context.Canceled)
	noConsumers(t, h)

	s := subscribe(t, h.Client, event.Filter{}) // while it waits
	require.Equal(t, rs, s.next(t, 10))
	s.ended(t)
	noConsumers(t, h)

	cancel() // before it begins
	for _, err := range h.Client.Subscribe(ctx, event.Filter{}) {
		require.ErrorIs(t, err, context.Canceled)
	}
	noConsumers(t, h)
}

// Many readers come and go at any moment of their lives: none stays on the server,
// and, says TestMain, no goroutine here.
func TestManyReadersLeaveNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(200))
	require.NoError(t, err)
	var readers sync.WaitGroup
	for i := range 60 {
		readers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			for _, err := range h.Client.Subscribe(ctx, event.Filter{}) {
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
	readers.Wait()
	noConsumers(t, h)
}

func TestJunkIsSetAside(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	s := subscribe(t, h.Client, event.Filter{})
	good := wire.Encode(event.Recorded{Event: event.Event{
		ID: "by hand", Type: "test.event", StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1), Payload: []byte("1"),
	}})
	elsewhere := nats.NewMsg(wire.EventSubject("test.event", "t"))
	elsewhere.Data = good.Data
	js := h.Admin(t)
	var want []event.Recorded
	junk := 0
	for i, m := range []*nats.Msg{
		{Subject: wire.EventSubject("test.event", "s"), Data: []byte("junk")},
		{Subject: wire.EventSubject("test.event", "s")},
		{Subject: wire.EventSubject("test.event", "s"), Data: []byte(`{"id":"x"}`)},
		{Subject: wire.EventSubject("test.event", "s"), Data: []byte("\xff\xfe{}")},
		{Subject: "events.x", Data: good.Data},
		{Subject: "events.test.event.%zz", Data: good.Data},
		elsewhere,
	} {
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
		junk++
		r, err := h.Client.Append(t.Context(), newEvent(fmt.Sprint(i)))
		require.NoError(t, err)
		want = append(want, r)
	}
	_, err := js.PublishMsg(t.Context(), good) // what is written by hand and right is an event
	require.NoError(t, err)
	got := s.next(t, len(want)+1)
	require.Equal(t, want, got[:len(want)])
	require.Equal(t, "by hand", got[len(want)].ID)
	require.EqualValues(t, junk, h.Client.Admin().SetAside())
	s.ended(t)

	other := h.NewClient(t, client.Config{})
	require.Equal(t, got, query(t, other, event.Filter{}))
	require.EqualValues(t, junk, other.Admin().SetAside())
}

// An administrator, or the engine after a long silence, takes the consumer away: the
// reader makes another and misses nothing.
func TestSubscriptionOutlivesItsConsumer(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	s := subscribe(t, h.Client, event.Filter{})
	for range 3 {
		rs, err := h.Client.AppendBatch(t.Context(), numbered(20))
		require.NoError(t, err)
		require.Equal(t, rs, s.next(t, 20))
		names := consumers(t, h)
		require.Len(t, names, 1)
		require.NoError(t, js.DeleteConsumer(t.Context(), wire.LogName, names[0]))
	}
	r, err := h.Client.Append(t.Context(), newEvent(`"last"`))
	require.NoError(t, err)
	require.Equal(t, []event.Recorded{r}, s.next(t, 1))
	s.ended(t)
	noConsumers(t, h)
}

// A slow reader blocks nobody and loses nothing.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	ctx := within(t, time.Minute)
	step := make(chan struct{})
	got := make(chan event.Recorded)
	go func() {
		for r, err := range h.Client.Subscribe(ctx, event.Filter{Limit: 2500}) {
			if err != nil {
				t.Error(err)
				break
			}
			<-step
			got <- r
		}
		close(got)
	}()
	for range 5 {
		_, err := h.Client.AppendBatch(ctx, numbered(500))
		require.NoError(t, err)
	}
	h.Restart(t) // with a full buffer
	close(step)
	n := event.Sequence(0)
	for r := range got {
		n++
		require.Equal(t, n, r.Seq)
	}
	require.EqualValues(t, 2500, n)
}

// A reader is busy with one event while heartbeats pile up, and then as many events
// as one request asks for: the last of them comes, though nothing follows it.
func TestBusyReaderMissesNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc := h.Connect(t)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	defer c.Close()
	_, err = h.Client.AppendBatch(t.Context(), numbered(10))
	require.NoError(t, err)

	busy, free := make(chan struct{}), make(chan struct{})
	s := &subscription{got: make(chan event.Recorded, 1000), end: make(chan error, 1)}
	go func() {
		for r, err := range c.Subscribe(within(t, 30*time.Second), event.Filter{Limit: 1000}) {
			if err != nil {
				s.end <- err
				break
			}
			if r.Seq == 1 {
				close(busy)
				<-free
			}
			s.got <- r
		}
		close(s.got)
	}()
	<-busy
	delivered(t, h, 10)
	before := nc.Stats().InMsgs
	require.Eventually(t, func() bool { return nc.Stats().InMsgs >= before+2 }, 20*time.Second, 10*time.Millisecond, "two heartbeats")
	_, err = h.Client.AppendBatch(t.Context(), numbered(990))
	require.NoError(t, err)
	delivered(t, h, 1000)
	position(t, c) // by the same connection: what the server sent before is here
	close(free)
	require.Len(t, s.next(t, 1000), 1000)
}

// delivered waits until the only consumer has been sent so many messages.
func delivered(t *testing.T, h *brokertest.Host, n uint64) {
	t.Helper()
	s, err := h.Admin(t).Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		for info := range s.ListConsumers(t.Context()).Info() {
			if info.Delivered.Consumer >= n {
				return true
			}
		}
		return false
	}, 10*time.Second, 5*time.Millisecond)
}
