package client_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
	"durablestream/internal/wire"
)

// Every bad input, by each way in, is refused by name, and the Log
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
		"timestamp negative":    {func(e *event.Event) { e.Timestamp = time.UnixMilli(-1) }, "timestamp", "0 or later", "-1"},
		"timestamp in seconds":  {func(e *event.Event) { e.Timestamp = time.UnixMilli(1_796_046_000) }, "timestamp", "looks like seconds", "1796046000"},
		"timestamp in micros":   {func(e *event.Event) { e.Timestamp = time.UnixMilli(1_796_046_000_000_000) }, "timestamp", "microseconds", "1796046000000000"},
		"timestamp greatest":    {func(e *event.Event) { e.Timestamp = time.UnixMilli(math.MaxInt64) }, "timestamp", "nanoseconds", "9223372036854775807"},
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
		"since after until": {event.Filter{Since: time.UnixMilli(2), Until: time.UnixMilli(1)}, "since", "until (1)"},
		"negative since":    {event.Filter{Since: time.UnixMilli(-1)}, "since", "0 or later"},
		"negative until":    {event.Filter{Until: time.UnixMilli(-1)}, "until", "0 or later"},
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
		e.ID, e.CorrelationID, e.Timestamp = event.NewID(), "c", time.UnixMilli(1)
		return e
	}
	e := sized(0)
	limit := int(h.Conn.MaxPayload())
	most := limit - logio.HeaderRoom - wire.Size(wire.Encode(event.Recorded{Event: e}))

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

// All of a batch is checked before any of it is sent: to a server that begins it, a batch
// that is given up holds one of few places for seconds.
func TestRefusedBatchSendsNothing(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	nc := h.Connect(t)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for name, spoil := range map[string]func(*event.Event){
		"not valid": func(e *event.Event) { e.Actor = "" },
		"too large": func(e *event.Event) { e.Payload = []byte(`"` + strings.Repeat("x", int(nc.MaxPayload())) + `"`) },
	} {
		batch := numbered(500)
		spoil(&batch[499])
		before := nc.Stats().OutMsgs
		_, err := c.AppendBatch(t.Context(), batch)
		require.Error(t, err, name)
		require.Equal(t, before, nc.Stats().OutMsgs, name)
	}
	before := nc.Stats().OutMsgs
	_, err = c.AppendBatch(t.Context(), numbered(500))
	require.NoError(t, err)
	require.GreaterOrEqual(t, nc.Stats().OutMsgs, before+500, "what is sent is seen here")
}
