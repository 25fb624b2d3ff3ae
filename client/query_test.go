package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// reference is what a query must bring, by the words of Filter.
func reference(log []event.Recorded, f event.Filter) []event.Recorded {
	var out []event.Recorded
	for _, r := range log {
		if f.Match(r) {
			out = append(out, r)
		}
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	if f.Last > 0 && len(out) > f.Last {
		out = out[len(out)-f.Last:]
	}
	return out
}

var (
	someTypes    = []string{"a.b", "a.c", "a.b.c", "b.c", "a.b.c.d.e.f.g.h", "checkpoint.noted"}
	someStreams  = []string{"s", "s.1", "S", "*", "ü %", "long stream id with spaces"}
	someActors   = []string{"me", "you", "agent/1", "ünï"}
	somePatterns = []string{"a.b", "a.*", "a.>", "*.b", "*.c", "*.*", ">", "a.b.*", "a.*.c", "*.*.c", "b.>", "none.such", "checkpoint.*", "a.b.c.d.e.f.g.*"}
)

// mixedLog holds some events of all kinds, in no order of time, with guards in
// between, and messages that are no events.
func mixedLog(t *testing.T) (*brokertest.Host, []event.Recorded) {
	t.Helper()
	h := brokertest.Start(t)
	js := h.Admin(t)
	pick := func(from []string) string { return from[rand.IntN(len(from))] }
	var log []event.Recorded
	for i := range 120 {
		r, err := h.Client.Append(t.Context(), event.Event{
			Type: pick(someTypes), StreamID: pick(someStreams), Actor: pick(someActors),
			CorrelationID: pick([]string{"c1", "c2", "ć3"}), Timestamp: time.UnixMilli(1 + rand.Int64N(20)), Payload: []byte(fmt.Sprint(i)),
		})
		require.NoError(t, err)
		log = append(log, r)
		for range rand.IntN(3) {
			_, err := js.Publish(t.Context(), wire.GuardSubject(event.GuardUser, "x"), []byte("{}"))
			require.NoError(t, err)
		}
		if i%30 == 7 {
			_, err := js.Publish(t.Context(), wire.EventSubject("a.b", "s"), []byte("junk"))
			require.NoError(t, err)
		}
	}
	return h, log
}

func TestQueryByEachField(t *testing.T) {
	t.Parallel()
	h, log := mixedLog(t)
	at := func(i int) event.Sequence { return log[i].Seq }
	for name, f := range map[string]event.Filter{
		"all":               {},
		"stream":            {StreamID: "s"},
		"stream with a dot": {StreamID: "s.1"},
		"stream star":       {StreamID: "*"},
		"stream escaped":    {StreamID: "ü %"},
		"no such stream":    {StreamID: "t"},
		"type":              {Types: []string{"a.b"}},
		"deepest type":      {Types: []string{"a.b.c.d.e.f.g.h"}},
		"pattern *":         {Types: []string{"a.*"}},
		"pattern >":         {Types: []string{"a.>"}},
		"pattern > alone":   {Types: []string{">"}},
		"two types":         {Types: []string{"a.b", "b.c"}},
		"overlapping":       {Types: []string{"a.*", "a.b", "a.>", "*.b"}},
		"crossing":          {Types: []string{"a.*", "*.c"}},
		"the same twice":    {Types: []string{"a.b", "a.b"}},
		"stream and type":   {StreamID: "s", Types: []string{"a.>"}},
		"actor":             {Actor: "me"},
		"actor not ASCII":   {Actor: "ünï"},
		"correlation":       {CorrelationID: "c1"},
		"correlation hash":  {CorrelationID: "ć3"},
		"since":             {Since: time.UnixMilli(10)},
		"until":             {Until: time.UnixMilli(10)},
		"one millisecond":   {Since: time.UnixMilli(7), Until: time.UnixMilli(7)},
		"after":             {After: at(50)},
		"after a guard":     {After: at(50) + 1},
		"after the last":    {After: at(119)},
		"after the end":     {After: at(119) + 1000},
		"limit":             {Limit: 7},
		"limit of one":      {Limit: 1},
		"limit too large":   {Limit: 1000},
		"limit after":       {Limit: 3, After: at(20)},
		"last":              {Last: 7},
		"last one":          {Last: 1},
		"last too many":     {Last: 1000},
		"last after":        {Last: 100, After: at(60)},
		"last of a stream":  {Last: 2, StreamID: "S"},
		"last of none":      {Last: 2, StreamID: "t"},
		"everything":        {StreamID: "s", Types: []string{"a.*", ">"}, Actor: "me", CorrelationID: "c1", Since: time.UnixMilli(2), Until: time.UnixMilli(19), After: at(3), Last: 2},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, reference(log, f), query(t, h.Client, f))
		})
	}
}

func TestQueryByAnyFields(t *testing.T) {
	t.Parallel()
	h, log := mixedLog(t)
	maybe := func(odds int) bool { return rand.IntN(odds) == 0 }
	for range 150 {
		var f event.Filter
		if maybe(3) {
			f.StreamID = someStreams[rand.IntN(len(someStreams))]
		}
		for range rand.IntN(5) {
			f.Types = append(f.Types, somePatterns[rand.IntN(len(somePatterns))])
		}
		if maybe(3) {
			f.Actor = someActors[rand.IntN(len(someActors))]
		}
		if maybe(3) {
			f.Since = time.UnixMilli(rand.Int64N(20))
		}
		if maybe(3) {
			f.Until = time.UnixMilli(event.Time{Time: f.Since}.Milli() + rand.Int64N(20))
		}
		if maybe(2) {
			f.After = event.Sequence(rand.Uint64N(uint64(log[119].Seq) + 2))
		}
		switch rand.IntN(3) {
		case 0:
			f.Limit = rand.IntN(20)
		case 1:
			f.Last = rand.IntN(20)
		}
		require.Equal(t, reference(log, f), query(t, h.Client, f), "%+v", f)
	}
}

func TestQueryOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for _, f := range []event.Filter{{}, {Last: 5}, {Limit: 5}, {StreamID: "s"}, {After: 7}} {
		require.Empty(t, query(t, h.Client, f))
	}
	// Guards alone are no events.
	_, err := h.Admin(t).Publish(t.Context(), wire.GuardSubject(event.GuardUser, "x"), nil)
	require.NoError(t, err)
	for _, f := range []event.Filter{{}, {Last: 5}, {Limit: 5}, {StreamID: "s"}} {
		require.Empty(t, query(t, h.Client, f))
	}
}

// The last few of many: found through several windows, over long stretches of other
// streams and of guards.
func TestQueryLastSparse(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	var rare []event.Recorded
	for range 7 {
		batch := numbered(999)
		batch[500].StreamID = "rare"
		rs, err := h.Client.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
		rare = append(rare, rs[500])
		for range 10 {
			_, err := js.Publish(t.Context(), wire.GuardSubject(event.GuardUser, "x"), nil)
			require.NoError(t, err)
		}
	}
	for _, n := range []int{1, 2, 6, 7, 8, 5000} {
		want := rare[max(0, 7-n):]
		require.Equal(t, want, query(t, h.Client, event.Filter{StreamID: "rare", Last: n}), "last %d", n)
		require.Equal(t, want[max(0, len(want)-3):], query(t, h.Client, event.Filter{StreamID: "rare", Last: n, After: rare[3].Seq}), "last %d after", n)
	}
	everything := query(t, h.Client, event.Filter{})
	require.Len(t, everything, 7*999)
	for _, n := range []int{1024, 1025, 7 * 999, 7000} {
		require.Equal(t, sequences(everything[max(0, len(everything)-n):]), sequences(query(t, h.Client, event.Filter{Last: n})), "last %d", n)
	}
	require.Equal(t, sequences(everything[:1500]), sequences(query(t, h.Client, event.Filter{Limit: 1500})))
}

func sequences(rs []event.Recorded) []event.Sequence {
	out := make([]event.Sequence, len(rs))
	for i, r := range rs {
		out[i] = r.Seq
	}
	return out
}

// On one host a query sees all that was appended before it began, by whomever.
func TestQuerySeesWhatWasAppended(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	clients := []*client.Client{h.Client, h.NewClient(t, client.Config{}), h.NewClient(t, client.Config{})}
	var all sync.WaitGroup
	for w, writer := range clients {
		all.Go(func() {
			for i := range 40 {
				r, err := writer.Append(t.Context(), newEvent(fmt.Sprint(i)))
				if err != nil {
					t.Error(err)
					return
				}
				reader := clients[(w+i)%len(clients)]
				seen := false
				for got, err := range reader.Query(t.Context(), event.Filter{Last: 20}) {
					if err != nil {
						t.Error(err)
						return
					}
					seen = seen || got.ID == r.ID
				}
				at, err := reader.Position(t.Context())
				if !seen || err != nil || at < r.Seq {
					t.Errorf("client %d does not see event %d of client %d: %v", (w+i)%len(clients), r.Seq, w, err)
				}
			}
		})
	}
	all.Wait()
}

func TestQueryEndsWhereTheLogEndedAtItsStart(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	_, err := h.Client.AppendBatch(t.Context(), numbered(50))
	require.NoError(t, err)
	for name, f := range map[string]event.Filter{"all": {}, "filtered": {StreamID: "s"}, "last": {Last: 1000}} {
		before := position(t, h.Client)
		n := 0
		for r, err := range h.Client.Query(within(t, 20*time.Second), f) {
			require.NoError(t, err)
			require.LessOrEqual(t, r.Seq, before, name)
			n++
			// The Log grows while the query reads.
			_, err = h.Client.Append(t.Context(), newEvent("1"))
			require.NoError(t, err)
		}
		require.EqualValues(t, before, n, name)
		require.Equal(t, 2*before, position(t, h.Client), name)
	}

	// The same while others append without end.
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				h.Client.Append(ctx, newEvent("1")) // the last one fails
			}
		})
	}
	for range 10 {
		before := position(t, h.Client)
		got := query(t, h.Client, event.Filter{})
		require.GreaterOrEqual(t, got[len(got)-1].Seq, before)
		require.EqualValues(t, got[len(got)-1].Seq, len(got))
	}
	cancel()
	writers.Wait()
}

func TestQueryMayBeLeft(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	rs, err := h.Client.AppendBatch(t.Context(), numbered(100))
	require.NoError(t, err)
	q := h.Client.Query(t.Context(), event.Filter{})
	for range 2 { // an iterator may be used again: it asks again
		var got []event.Recorded
		for r, err := range q {
			require.NoError(t, err)
			if got = append(got, r); len(got) == 10 {
				break
			}
		}
		require.Equal(t, rs[:10], got)
	}
	for _, f := range []event.Filter{{}, {Last: 50}} {
		ctx, cancel := context.WithCancel(t.Context())
		var errs []error
		n := 0
		for _, err := range h.Client.Query(ctx, f) {
			if n++; n == 5 {
				cancel()
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
		cancel()
		if f.Last == 0 { // Last collects first, and has all when the context ends
			require.Len(t, errs, 1)
			require.ErrorIs(t, errs[0], context.Canceled)
			require.Less(t, n, 100)
		}
	}
	noConsumers(t, h)
}

// noConsumers demands that no reader has left a consumer on the server.
func noConsumers(t *testing.T, h *brokertest.Host) {
	t.Helper()
	require.Eventually(t, func() bool { return len(consumers(t, h)) == 0 }, 5*time.Second, 5*time.Millisecond)
}

func consumers(t *testing.T, h *brokertest.Host) (names []string) {
	t.Helper()
	s, err := h.Admin(t).Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	list := s.ConsumerNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	require.NoError(t, list.Err())
	return names
}

// More than the 32 MiB that one request of a reader asks for.
func TestQueryPastLargeMessages(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	large := make([]byte, h.Conn.MaxPayload()*7/8) // no JSON: quickly set aside
	n := 35<<20/len(large) + 1
	for range n {
		_, err := js.Publish(t.Context(), wire.EventSubject("test.event", "s"), large)
		require.NoError(t, err)
	}
	r, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.Equal(t, []event.Recorded{r}, query(t, h.Client, event.Filter{}))
	require.EqualValues(t, n, h.Client.Admin().SetAside())
}
