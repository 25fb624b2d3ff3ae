package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// newEvent is a valid event with that payload.
func newEvent(payload string) event.Event {
	return event.Event{Type: "test.event", StreamID: "s", Actor: "tester", Payload: []byte(payload)}
}

// numbered gives n events with payloads 1 to n.
func numbered(n int) []event.Event {
	es := make([]event.Event, n)
	for i := range es {
		es[i] = newEvent(fmt.Sprint(i + 1))
	}
	return es
}

// query collects what a Query brings.
func query(t *testing.T, c *client.Client, f event.Filter) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range c.Query(t.Context(), f) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func position(t *testing.T, c *client.Client) event.Sequence {
	t.Helper()
	at, err := c.Position(t.Context())
	require.NoError(t, err)
	return at
}

// within bounds a test's waits.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAppendFillsIn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	c := h.NewClient(t, client.Config{StreamID: "mine"})
	before := event.Now()
	r, err := c.Append(t.Context(), event.Event{Type: "task.created", Actor: "me"})
	require.NoError(t, err)
	id, err := uuid.Parse(r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 7, id.Version())
	require.GreaterOrEqual(t, r.Timestamp, before)
	require.LessOrEqual(t, r.Timestamp, event.Now())
	require.Equal(t, "mine", r.StreamID)
	require.Equal(t, "{}", string(r.Payload))
	require.Nil(t, r.Metadata)
	require.Equal(t, c.CorrelationID(), r.CorrelationID)
	require.NotEmpty(t, r.CorrelationID)
	require.EqualValues(t, 1, r.Seq)
	require.Equal(t, []event.Recorded{r}, query(t, c, event.Filter{}))

	require.NotEqual(t, c.CorrelationID(), h.Client.CorrelationID(), "each client has its own")
	d := h.NewClient(t, client.Config{CorrelationID: "run-1"})
	r, err = d.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.Equal(t, "run-1", r.CorrelationID)
}

func TestAppendKeepsWhatIsGiven(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	given := event.Event{
		ID: "id with spaces, ünïcode", Type: "a.b-c.D_1", StreamID: "s.1 * > %41 \x7f ü", CausationID: "cause",
		CorrelationID: "corr", Actor: "ä", Timestamp: 1,
		Payload:  json.RawMessage("{ \"n\" : 123456789012345678901234567890.10 ,\t\"html\":\"<&>\\u00e9é\" }\n"),
		Metadata: json.RawMessage(` { "k" : [ 1 , 2 ] } `),
		Extra:    []event.Field{{Name: "x y", Value: json.RawMessage(` [ true ] `)}},
	}
	was := given.Clone()
	r, err := h.Client.Append(t.Context(), given)
	require.NoError(t, err)
	require.Equal(t, was, given, "the input is not changed")

	want := given.Clone()
	want.Payload = json.RawMessage(`{"n":123456789012345678901234567890.10,"html":"<&>\u00e9é"}`)
	want.Metadata = json.RawMessage(`{"k":[1,2]}`)
	want.Extra[0].Value = json.RawMessage(`[true]`)
	require.Equal(t, event.Recorded{Event: want, Seq: 1}, r)
	require.Equal(t, []event.Recorded{r}, query(t, h.Client, event.Filter{}))

	// Nor do input and answer share memory.
	clear(given.Payload)
	clear(given.Metadata)
	clear(given.Extra[0].Value)
	given.Extra[0].Name = ""
	require.Equal(t, event.Recorded{Event: want, Seq: 1}, r)
}

// Every bad input of the issue, by each way in, is refused by name, and the Log
// stays as it was.
func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	_, err := h.Client.Append(t.Context(), newEvent("0"))
	require.NoError(t, err)
	long := func(n int) string { return strings.Repeat("x", n) }

	for name, c := range map[string]struct {
		break_      func(*event.Event)
		field, rule string
		value       string
	}{
		"empty type":            {func(e *event.Event) { e.Type = "" }, "type", "2 to 8 tokens", `""`},
		"one token":             {func(e *event.Event) { e.Type = "created" }, "type", "2 to 8 tokens", "created"},
		"nine tokens":           {func(e *event.Event) { e.Type = "a.b.c.d.e.f.g.h.i" }, "type", "2 to 8 tokens", "a.b.c"},
		"empty token":           {func(e *event.Event) { e.Type = "a..b" }, "type", "each token", "a..b"},
		"star in type":          {func(e *event.Event) { e.Type = "a.*" }, "type", "each token", "a.*"},
		"gt in type":            {func(e *event.Event) { e.Type = "a.>" }, "type", "each token", "a.>"},
		"space in type":         {func(e *event.Event) { e.Type = "a.b c" }, "type", "each token", "a.b c"},
		"newline in type":       {func(e *event.Event) { e.Type = "a.b\r\n" }, "type", "each token", `a.b\r\n`},
		"type too long":         {func(e *event.Event) { e.Type = "a." + long(199) }, "type", "200 bytes", "a.xxx"},
		"type not UTF-8":        {func(e *event.Event) { e.Type = "a.\xff" }, "type", "each token", `a.\xff`},
		"no stream":             {func(e *event.Event) { e.StreamID = "" }, "stream_id", "not be empty", `""`},
		"stream too long":       {func(e *event.Event) { e.StreamID = long(513) }, "stream_id", "512 bytes", "xxx"},
		"stream not UTF-8":      {func(e *event.Event) { e.StreamID = "s\xc3" }, "stream_id", "UTF-8", `s\xc3`},
		"payload not JSON":      {func(e *event.Event) { e.Payload = []byte(`{"a":}`) }, "payload", "JSON", `{\"a\":}`},
		"payload of two values": {func(e *event.Event) { e.Payload = []byte(`1 2`) }, "payload", "JSON", "1 2"},
		"payload of spaces":     {func(e *event.Event) { e.Payload = []byte("  ") }, "payload", "JSON", `"  "`},
		"payload not UTF-8":     {func(e *event.Event) { e.Payload = []byte("\"\xff\"") }, "payload", "UTF-8", `\xff`},
		"metadata a list":       {func(e *event.Event) { e.Metadata = []byte(`[1]`) }, "metadata", "object", "[1]"},
		"metadata null":         {func(e *event.Event) { e.Metadata = []byte(`null`) }, "metadata", "object", "null"},
		"metadata empty":        {func(e *event.Event) { e.Metadata = []byte{} }, "metadata", "JSON", `""`},
		"metadata not JSON":     {func(e *event.Event) { e.Metadata = []byte(`{`) }, "metadata", "JSON", "{"},
		"id too long":           {func(e *event.Event) { e.ID = long(257) }, "id", "256 bytes", "xxx"},
		"id with control":       {func(e *event.Event) { e.ID = "a\nb" }, "id", "control", `a\nb`},
		"id with C1 control":    {func(e *event.Event) { e.ID = "a\u0085b" }, "id", "control", `a\u0085b`},
		"id not UTF-8":          {func(e *event.Event) { e.ID = "\xff" }, "id", "UTF-8", `\xff`},
		"causation too long":    {func(e *event.Event) { e.CausationID = long(257) }, "causation_id", "256 bytes", "xxx"},
		"correlation too long":  {func(e *event.Event) { e.CorrelationID = long(1025) }, "correlation_id", "1024 bytes", "xxx"},
		"no actor":              {func(e *event.Event) { e.Actor = "" }, "actor", "not be empty", `""`},
		"actor not UTF-8":       {func(e *event.Event) { e.Actor = "\x80" }, "actor", "UTF-8", `\x80`},
		"timestamp negative":    {func(e *event.Event) { e.Timestamp = -1 }, "timestamp", "0 or later", "-1"},
		"reserved seq":          {func(e *event.Event) { extra(e, "seq", "7") }, "seq", "reserved", "7"},
		"reserved guard":        {func(e *event.Event) { extra(e, "guard", `"g"`) }, "guard", "reserved", `g`},
		"reserved imported":     {func(e *event.Event) { extra(e, "imported", "true") }, "imported", "reserved", "true"},
		"reserved chain":        {func(e *event.Event) { extra(e, "chain", "1") }, "chain", "reserved", "1"},
		"known field again":     {func(e *event.Event) { extra(e, "actor", `"you"`) }, "actor", "twice", "you"},
		"extra not JSON":        {func(e *event.Event) { extra(e, "x", "{") }, "x", "JSON", "{"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := newEvent(`{"n":1}`)
			c.break_(&bad)
			check := func(err error) {
				t.Helper()
				var invalid *event.InvalidError
				require.ErrorAs(t, err, &invalid)
				require.Equal(t, c.field, invalid.Field)
				for _, part := range []string{c.field, c.value, c.rule} {
					require.ErrorContains(t, err, part)
				}
				require.Less(t, len(err.Error()), 400)
			}
			_, err := h.Client.Append(t.Context(), bad)
			check(err)
			_, err = h.Client.AppendBatch(t.Context(), []event.Event{bad})
			check(err)
			_, err = h.Client.AppendBatch(t.Context(), []event.Event{newEvent("1"), newEvent("2"), bad})
			check(err)
			require.ErrorContains(t, err, "event 3 ")
		})
	}
	for _, n := range []int{0, 1000} {
		rs, err := h.Client.AppendBatch(t.Context(), numbered(n))
		var invalid *event.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.ErrorContains(t, err, fmt.Sprintf("%d events", n))
		require.ErrorContains(t, err, "1 to 999")
		require.Nil(t, rs)
	}
	require.EqualValues(t, 1, position(t, h.Client))
}

func extra(e *event.Event, name, value string) {
	e.Extra = append(e.Extra, event.Field{Name: name, Value: []byte(value)})
}

func TestBadFilters(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for name, c := range map[string]struct {
		f           event.Filter
		field, rule string
	}{
		"since after until": {event.Filter{Since: 2, Until: 1}, "since", "until (1)"},
		"negative since":    {event.Filter{Since: -1}, "since", "0 or later"},
		"negative until":    {event.Filter{Until: -1}, "until", "0 or later"},
		"negative limit":    {event.Filter{Limit: -1}, "limit", "or more"},
		"negative last":     {event.Filter{Last: -1}, "last", "or more"},
		"limit and last":    {event.Filter{Limit: 1, Last: 1}, "last", "combined"},
		"one token":         {event.Filter{Types: []string{"a.b", "*"}}, "type pattern", "2 to 8 tokens"},
		"> in the middle":   {event.Filter{Types: []string{"a.>.b"}}, "type pattern", "the last may be >"},
		"space":             {event.Filter{Types: []string{"a. b"}}, "type pattern", "each token"},
		"stream too long":   {event.Filter{StreamID: strings.Repeat("x", 513)}, "stream_id", "512"},
		"stream not UTF-8":  {event.Filter{StreamID: "\xff"}, "stream_id", "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, read := range []func(context.Context, event.Filter) (n int, err error){
				func(ctx context.Context, f event.Filter) (n int, err error) {
					for _, err = range h.Client.Query(ctx, f) {
						n++
					}
					return n, err
				},
				func(ctx context.Context, f event.Filter) (n int, err error) {
					for _, err = range h.Client.Subscribe(ctx, f) {
						n++
					}
					return n, err
				},
			} {
				n, err := read(within(t, 10*time.Second), c.f)
				var invalid *event.InvalidError
				require.ErrorAs(t, err, &invalid)
				require.Equal(t, c.field, invalid.Field)
				require.ErrorContains(t, err, c.rule)
				require.Equal(t, 1, n, "the error is all that comes")
			}
		})
	}
	for _, err := range h.Client.Subscribe(within(t, 10*time.Second), event.Filter{Last: 1}) {
		require.ErrorAs(t, err, new(*event.InvalidError))
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	sized := func(n int) event.Event {
		e := newEvent(`"` + strings.Repeat("x", n) + `"`)
		e.ID, e.CorrelationID, e.Timestamp = event.NewID(), "c", 1
		return e
	}
	e := sized(0)
	limit := int(h.Conn.MaxPayload())
	most := limit - client.HeaderRoom - wire.Size(wire.Encode(event.Recorded{Event: e}))

	var large *client.TooLargeError
	_, err := h.Client.Append(t.Context(), sized(most+1))
	require.ErrorAs(t, err, &large)
	require.Equal(t, client.TooLargeError{Size: limit + 1, Limit: limit}, *large)
	require.ErrorContains(t, err, strconv.Itoa(limit+1))
	require.ErrorContains(t, err, strconv.Itoa(limit))
	_, err = h.Client.AppendBatch(t.Context(), []event.Event{sized(1), sized(limit + 1<<20), sized(1)})
	require.ErrorAs(t, err, &large)
	require.Zero(t, position(t, h.Client))

	r, err := h.Client.Append(t.Context(), sized(most))
	require.NoError(t, err, "the limit itself")
	require.Equal(t, []event.Recorded{r}, query(t, h.Client, event.Filter{}))

	// In a batch each message also names its batch, and a late try its condition.
	rs, err := h.Client.AppendBatch(t.Context(), []event.Event{sized(1), sized(most)})
	require.NoError(t, err)
	require.EqualValues(t, 3, rs[1].Seq)
}

func TestSameIDAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	e := newEvent(`{"n":1}`)
	e.ID = "once"
	first, err := h.Client.Append(t.Context(), e)
	require.NoError(t, err)

	again := e
	again.Payload = []byte(` { "n" : 1 } `)
	again.Actor, again.Timestamp = "somebody else", 5 // what was recorded first stands
	for _, c := range []*client.Client{h.Client, h.NewClient(t, client.Config{})} {
		r, err := c.Append(t.Context(), again)
		require.NoError(t, err)
		require.Equal(t, first, r)
	}
	h.Restart(t)
	r, err := h.Client.Append(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, first, r)

	for name, change := range map[string]func(*event.Event){
		"payload": func(e *event.Event) { e.Payload = []byte(`{"n":1.0}`) },
		"type":    func(e *event.Event) { e.Type = "test.other" },
		"stream":  func(e *event.Event) { e.StreamID = "t" },
	} {
		other := e
		change(&other)
		_, err := h.Client.Append(t.Context(), other)
		require.ErrorIs(t, err, client.ErrDuplicateID, name)
		require.ErrorContains(t, err, "seq 1")
	}
	require.EqualValues(t, 1, position(t, h.Client))
}

func TestSameIDAtOnce(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	for round := range 10 {
		e := newEvent("1")
		e.ID = fmt.Sprint("round ", round)
		var at [16]event.Sequence
		var all sync.WaitGroup
		for i := range at {
			all.Go(func() {
				r, err := h.Client.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
				}
				at[i] = r.Seq
			})
		}
		all.Wait()
		for _, seq := range at {
			require.EqualValues(t, round+1, seq)
		}
	}
}

func TestAppendConcurrently(t *testing.T) {
	t.Parallel()
	const writers, each = 64, 20
	h := brokertest.Start(t)
	var got [writers][]event.Recorded
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				e := newEvent(fmt.Sprint(i))
				e.Actor = fmt.Sprint(w)
				r, err := h.Client.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				got[w] = append(got[w], r)
			}
		})
	}
	all.Wait()
	log := query(t, h.Client, event.Filter{})
	require.Len(t, log, writers*each)
	for w := range got {
		require.Len(t, got[w], each)
		require.True(t, slices.IsSortedFunc(got[w], func(a, b event.Recorded) int { return int(a.Seq) - int(b.Seq) }))
		for _, r := range got[w] {
			require.Equal(t, r, log[r.Seq-1])
		}
	}
}

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc := h.Connect(t)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	defer c.Close()

	// A subscription that waits learns of it.
	ended := make(chan error)
	go func() {
		for _, err := range c.Subscribe(t.Context(), event.Filter{}) {
			ended <- err
		}
	}()
	nc.Close()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, client.ErrClosed)
	case <-time.After(10 * time.Second):
		t.Fatal("the subscription goes on over a closed connection")
	}

	_, err = c.Append(t.Context(), newEvent("1"))
	require.ErrorIs(t, err, client.ErrClosed)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome, "it was never sent")
	_, err = c.AppendBatch(t.Context(), numbered(3))
	require.ErrorIs(t, err, client.ErrClosed)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome)
	_, err = c.Position(t.Context())
	require.ErrorIs(t, err, client.ErrClosed)
	for _, err := range c.Query(t.Context(), event.Filter{}) {
		require.ErrorIs(t, err, client.ErrClosed)
	}
	require.Zero(t, position(t, h.Client))
	c.Close()
	c.Close()
}

// The context decides how long an append waits, and nothing else makes its outcome
// unknown.
func TestAppendWithoutABroker(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{
		errorOf(h.Client.Append(ended, newEvent("1"))),
		errorOf(h.Client.AppendBatch(ended, numbered(3))),
	} {
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, client.ErrUnknownOutcome, "nothing was sent")
	}

	h.Stop(t)
	require.Eventually(t, func() bool { return !h.Conn.IsConnected() }, 10*time.Second, time.Millisecond)
	down := h.Client
	require.Eventually(t, func() bool {
		_, err := down.Append(within(t, 20*time.Millisecond), newEvent("1"))
		return errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrUnknownOutcome)
	}, 10*time.Second, time.Millisecond, "a connection that is known to be lost")
	_, err := down.AppendBatch(within(t, 50*time.Millisecond), numbered(3))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, client.ErrUnknownOutcome)

	// Who still waits gets its answer once there is a broker again.
	late := make(chan event.Recorded)
	go func() {
		defer close(late)
		r, err := down.Append(within(t, 20*time.Second), newEvent(`"late"`))
		if err != nil {
			t.Error(err)
		}
		late <- r
	}()
	h.Boot(t)
	r := <-late
	require.EqualValues(t, 1, r.Seq)
}

func errorOf[T any](_ T, err error) error { return err }

func TestServerWithoutALog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	js := h.Admin(t)
	require.NoError(t, js.DeleteStream(t.Context(), wire.LogName))
	began := time.Now()
	_, err := client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorIs(t, err, client.ErrNoLog)
	require.Less(t, time.Since(began), 5*time.Second, "who asks for the first time is told at once")

	cfg := wire.LogConfig(1, 0)
	for k := range cfg.Metadata {
		cfg.Metadata[k] = "99"
	}
	_, err = js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorAs(t, err, new(*wire.NewerFormatError))

	cfg = wire.LogConfig(1, 0)
	cfg.AllowAtomicPublish = false
	require.NoError(t, js.DeleteStream(t.Context(), wire.LogName))
	_, err = js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = client.New(t.Context(), h.Connect(t), client.Config{})
	require.ErrorAs(t, err, new(*wire.WeakLogError))
}

// Whoever follows an address file needs no name service, which may take seconds to
// fail on a machine without a network.
func TestConnectAsksNoNameService(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc, err := client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(h.Config.Dir)})
	require.NoError(t, err)
	defer nc.Close()
	require.True(t, nc.Opts.SkipHostLookup)
}

func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	_, err := client.Connect(t.Context(), client.Target{AddressFile: t.TempDir() + "/address"})
	require.ErrorContains(t, err, "/address")
	_, err = client.Connect(t.Context(), client.Target{Servers: []string{"nats://127.0.0.1:1"}})
	require.ErrorContains(t, err, "nats://127.0.0.1:1")
	require.ErrorIs(t, err, nats.ErrNoServers)
}
