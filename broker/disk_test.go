package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
)

const floor = 64 << 20

// fakeDisk is free space that a test sets.
type fakeDisk struct {
	free atomic.Int64
	err  atomic.Pointer[error]
}

func (d *fakeDisk) look() (int64, error) {
	if err := d.err.Load(); err != nil {
		return 0, *err
	}
	return d.free.Load(), nil
}

func startOn(t *testing.T, d *fakeDisk) *brokertest.Host {
	t.Helper()
	d.free.Store(2 * floor)
	h := brokertest.Start(t)
	h.Broker.WatchDisk(floor, d.look)
	return h
}

func TestNearlyFullDiskRefusesAppends(t *testing.T) {
	t.Parallel()
	var disk fakeDisk
	h := startOn(t, &disk)
	var want []event.Recorded
	appendOne := func() error {
		r, err := h.Client.Append(context.Background(), newEvent("1"))
		if err == nil {
			want = append(want, r)
		}
		return err
	}
	for range 10 {
		require.NoError(t, appendOne())
	}

	disk.free.Store(floor - 1)
	fell := time.Now()
	var err error
	for err == nil { // a Background context: it is refused, and does not wait
		err = appendOne()
	}
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.Less(t, time.Since(fell), time.Second)
	require.Eventually(t, func() bool { return h.Broker.Disk().Full }, time.Second, time.Millisecond)

	_, err = h.Client.AppendBatch(context.Background(), []event.Event{newEvent("1"), newEvent("2")})
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.Equal(t, want, all(t, h), "reads go on, and all that was acknowledged is there")

	// Just above the floor it does not flap.
	disk.free.Store(floor + 1)
	require.Eventually(t, func() bool { return h.Broker.Disk().Free == floor+1 }, time.Second, time.Millisecond)
	require.ErrorIs(t, appendOne(), client.ErrDiskFull)

	disk.free.Store(2 * floor)
	require.Eventually(t, func() bool { return appendOne() == nil }, time.Second, time.Millisecond)
	require.False(t, h.Broker.Disk().Full)
	_, err = h.Client.AppendBatch(context.Background(), []event.Event{newEvent("1"), newEvent("2")})
	require.NoError(t, err)
	require.Len(t, all(t, h), len(want)+2)
	require.Zero(t, h.Conn.Stats().Reconnects, "the same connections")
}

// A broker that starts on a nearly full disk refuses from the start, and a refusal
// does not outlive the broker.
func TestNearlyFullDiskAtStart(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	h.Config.DiskFloor = 1 << 62 // more than any disk has
	h.Restart(t)
	require.True(t, h.Broker.Disk().Full)
	require.Len(t, all(t, h), 1) // on the new connection: a try on the old one would have to go on
	_, err = h.Client.Append(t.Context(), newEvent("2"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.Len(t, all(t, h), 1)
	h.Config.DiskFloor = -1
	h.Restart(t)
	_, err = h.Client.Append(t.Context(), newEvent("2"))
	require.NoError(t, err)
}

func TestUnreadableDiskRefusesNothing(t *testing.T) {
	t.Parallel()
	var disk fakeDisk
	h := startOn(t, &disk)
	broken := errors.New("no such disk")
	disk.err.Store(&broken)
	require.Eventually(t, func() bool { return h.Broker.Disk().Free == -1 }, time.Second, time.Millisecond)
	_, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.False(t, h.Broker.Disk().Full)
}

// A batch is stored wholly or not at all, also when the disk watch strikes while it
// is on its way, and in an empty Log, which holds less than any limit.
func TestRefusalTearsNoBatch(t *testing.T) {
	t.Parallel()
	const size = 100
	h := brokertest.Start(t, func(c *broker.Config) { c.DiskFloor = -1 })
	ctx := t.Context()
	require.NoError(t, h.Broker.Refuse(true))
	batch := make([]event.Event, size)
	for i := range batch {
		batch[i] = newEvent(fmt.Sprint(i))
	}
	_, err := h.Client.AppendBatch(ctx, batch)
	require.ErrorIs(t, err, client.ErrDiskFull)
	_, err = h.Client.Append(ctx, newEvent("1"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.Empty(t, all(t, h))

	stop := make(chan struct{})
	var flapping sync.WaitGroup
	flapping.Go(func() {
		tick := time.NewTicker(7 * time.Millisecond)
		defer tick.Stop()
		for on := false; ; on = !on {
			if err := h.Broker.Refuse(on); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	acked := map[string]event.Sequence{}
	refused := 0
	for end := time.Now().Add(20 * time.Second); (len(acked) < 20 || refused < 20) && time.Now().Before(end); {
		for i := range batch {
			batch[i].StreamID = fmt.Sprint("batch ", len(acked)+refused)
		}
		rs, err := h.Client.AppendBatch(ctx, batch)
		if err != nil {
			require.ErrorIs(t, err, client.ErrDiskFull)
			refused++
			continue
		}
		acked[rs[0].StreamID] = rs[0].Seq
	}
	close(stop)
	flapping.Wait()
	require.NoError(t, h.Broker.Refuse(false))
	require.GreaterOrEqual(t, len(acked), 20)
	require.GreaterOrEqual(t, refused, 20)
	log := all(t, h)
	require.Len(t, log, size*len(acked))
	for i, r := range log {
		require.Equal(t, fmt.Sprint(i%size), string(r.Payload))
		require.Equal(t, acked[r.StreamID]+event.Sequence(i%size), r.Seq)
	}
}

// Clients that are at work while JetStream is switched off and on notice nothing
// but a delay.
func TestEngineRestartUnderWork(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t, func(c *broker.Config) { c.DiskFloor = -1 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var work [2]chan error
	run := func(i int, f func() error) {
		work[i] = make(chan error, 1)
		go func() { work[i] <- f() }()
	}
	const events = 300
	restarts := make(chan struct{})
	run(0, func() error { // reads of the Log's state, as fast as it goes
		for {
			if _, err := h.Client.Position(ctx); err != nil {
				return err
			}
			select {
			case <-restarts:
				return nil
			default:
			}
		}
	})
	run(1, func() error {
		n := 0
		for r, err := range h.Client.Subscribe(ctx, event.Filter{Limit: events}) {
			if err != nil {
				return err
			}
			if n++; string(r.Payload) != fmt.Sprint(n) {
				return fmt.Errorf("event %d came as the %d.", r.Seq, n)
			}
		}
		return nil
	})
	appended := make(chan int, events)
	go func() {
		defer close(appended)
		for i := range events {
			if _, err := h.Client.Append(ctx, newEvent(fmt.Sprint(i+1))); err != nil {
				t.Errorf("append %d: %v", i+1, err)
				cancel()
				return
			}
			appended <- i
		}
	}()
	for i := range appended {
		if i%100 == 50 {
			h.Broker.RestartEngine()
		}
	}
	close(restarts)
	for _, w := range work {
		require.NoError(t, <-w)
	}
	require.Zero(t, h.Conn.Stats().Reconnects)
	require.Len(t, all(t, h), events)
}
