package client_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

func TestBatchSizes(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	var want []event.Recorded
	for _, n := range []int{1, 2, 3, 998, 999} {
		in := numbered(n)
		rs, err := h.Client.AppendBatch(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, numbered(n), in, "the input is not changed")
		require.Len(t, rs, n)
		for i, r := range rs {
			require.EqualValues(t, len(want)+i+1, r.Seq)
			require.Equal(t, fmt.Sprint(i+1), string(r.Payload))
			require.NotEmpty(t, r.ID)
		}
		want = append(want, rs...)
		require.Equal(t, want[len(want)-1].Seq, position(t, h.Client))
	}
	require.Equal(t, want, query(t, h.Client, event.Filter{}))
}

func TestSameBatchAgain(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			_, err := h.Client.Append(t.Context(), newEvent("0"))
			require.NoError(t, err)
			in := numbered(n)
			for i := range in {
				in[i].ID = event.NewID()
			}
			first, err := h.Client.AppendBatch(t.Context(), in)
			require.NoError(t, err)
			_, err = h.Client.Append(t.Context(), newEvent("0"))
			require.NoError(t, err)
			before := position(t, h.Client)

			in[0].Timestamp, in[0].Actor = time.UnixMilli(5), "somebody else" // what was recorded first stands
			for range 2 {
				again, err := h.Client.AppendBatch(t.Context(), in)
				require.NoError(t, err)
				require.Equal(t, first, again)
				h.Restart(t)
			}

			other := append([]event.Event(nil), in...)
			other[n-1].Payload = []byte(`"other"`)
			_, err = h.Client.AppendBatch(t.Context(), other)
			require.ErrorIs(t, err, client.ErrDuplicateID, "another payload")
			require.Equal(t, before, position(t, h.Client))
		})
	}
}

func TestBatchWithAUsedID(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	used, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	for name, at := range map[string]int{"first": 0, "middle": 1, "last": 2} {
		batch := numbered(3)
		batch[at].ID = used.ID
		_, err := h.Client.AppendBatch(t.Context(), batch)
		require.ErrorIs(t, err, client.ErrDuplicateID, name)
		require.NotErrorIs(t, err, client.ErrUnknownOutcome, name)
	}
	twice := numbered(3)
	twice[0].ID, twice[2].ID = "x", "x"
	_, err = h.Client.AppendBatch(t.Context(), twice)
	require.ErrorIs(t, err, client.ErrDuplicateID, "twice in one batch")
	require.Len(t, query(t, h.Client, event.Filter{}), 1, "none was stored")

	before := position(t, h.Client) // on a cluster a barrier was, to make sure of it
	rs, err := h.Client.AppendBatch(t.Context(), numbered(3))
	require.NoError(t, err, "nothing is left in the way")
	require.Equal(t, before+3, rs[2].Seq)
}

// A batch that was begun and not committed leaves nothing, whether its sender goes,
// the broker stops, or another batch with the same ids comes.
func TestBatchWithoutItsEnd(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	begin := func(nc *nats.Conn, name string) {
		require.Eventually(t, nc.IsConnected, 10*time.Second, time.Millisecond)
		for i, e := range numbered(20) {
			e.ID = fmt.Sprint("id", i)
			m := wire.Encode(event.Recorded{Event: e})
			m.Header.Set(wire.HeaderBatchID, name)
			m.Header.Set(wire.HeaderBatchSequence, fmt.Sprint(i+1))
			require.NoError(t, nc.PublishMsg(m))
		}
		require.NoError(t, nc.Flush())
	}
	nc := h.Connect(t)
	begin(nc, "gone")
	nc.Close()
	begin(h.Conn, "stopped")
	require.Zero(t, position(t, h.Client))
	h.Restart(t)
	require.Zero(t, position(t, h.Client))
	begin(h.Conn, "overtaken")

	in := numbered(20)
	for i := range in {
		in[i].ID = fmt.Sprint("id", i)
	}
	rs, err := h.Client.AppendBatch(within(t, 20*time.Second), in)
	require.NoError(t, err)
	require.Equal(t, rs, query(t, h.Client, event.Filter{}))
}

// wholeBatches demands that each batch, which is one stream here, is in the Log
// wholly and in one piece, or not at all.
func wholeBatches(t *testing.T, log []event.Recorded, size int) (stored map[string]event.Sequence) {
	t.Helper()
	stored = map[string]event.Sequence{}
	for i := 0; i < len(log); i += size {
		first := log[i]
		require.NotContains(t, stored, first.StreamID, "stored twice")
		stored[first.StreamID] = first.Seq
		require.LessOrEqual(t, i+size, len(log), "the last batch is whole")
		for j, r := range log[i : i+size] {
			require.Equal(t, first.StreamID, r.StreamID, "in one piece")
			require.Equal(t, fmt.Sprint(j+1), string(r.Payload))
			require.Equal(t, first.Seq+event.Sequence(j), r.Seq)
		}
	}
	return stored
}

// batchWriters append batches of size, each on a stream of its own, until ctx ends,
// and tell which ones were acknowledged where.
func batchWriters(ctx context.Context, clients []*client.Client, size int, acked chan<- event.Recorded) *sync.WaitGroup {
	var all sync.WaitGroup
	for w, c := range clients {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				batch := numbered(size)
				for j := range batch {
					batch[j].StreamID = fmt.Sprintf("%d.%d", w, i)
				}
				// Not given up half-way: a query may end within a batch that is being stored.
				if rs, err := c.AppendBatch(context.WithoutCancel(ctx), batch); err == nil {
					acked <- rs[0]
				}
			}
		})
	}
	return &all
}

func TestBatchesAcrossRestarts(t *testing.T) {
	t.Parallel()
	const size = 20
	h := brokertest.Start(t)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	acked := make(chan event.Recorded)
	writers := batchWriters(ctx, []*client.Client{h.Client, h.NewClient(t, client.Config{})}, size, acked)
	var want []event.Recorded
	for range 4 {
		for range 8 {
			want = append(want, <-acked)
		}
		h.Restart(t)
	}
	want = append(want, <-acked)
	cancel()
	go func() { writers.Wait(); close(acked) }()
	for r := range acked {
		want = append(want, r)
	}
	stored := wholeBatches(t, query(t, h.Client, event.Filter{}), size)
	for _, r := range want {
		require.Equal(t, r.Seq, stored[r.StreamID])
	}
}

// The host is killed while batches are on their way.
func TestBatchesAcrossKills(t *testing.T) {
	t.Parallel()
	const size = 20
	dir := filepath.Join(t.TempDir(), "host")
	run := brokertest.ChildHost(t, dir)
	connect := func() *client.Client {
		nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir)})
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		c, err := client.New(t.Context(), nc, client.Config{})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	reader := connect()
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	acked := make(chan event.Recorded)
	writers := batchWriters(ctx, []*client.Client{connect(), connect()}, size, acked)
	var want []event.Recorded
	for range 4 {
		for range 5 {
			want = append(want, <-acked)
		}
		require.NoError(t, run.Process.Kill())
		run.Wait() // its error is the kill
		run = brokertest.ChildHost(t, dir)
	}
	want = append(want, <-acked)
	cancel()
	go func() { writers.Wait(); close(acked) }()
	for r := range acked {
		want = append(want, r)
	}
	stored := wholeBatches(t, query(t, reader, event.Filter{}), size)
	for _, r := range want {
		require.Equal(t, r.Seq, stored[r.StreamID])
	}
}
