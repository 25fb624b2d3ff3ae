package wire_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

// genWritten gives events as Encode takes them, some with texts that no header takes.
func genWritten() *rapid.Generator[event.Recorded] {
	text := rapid.OneOf(rapid.SampledFrom([]string{"a", "user", "e1", "\x01\x02\"\\", "\u00fc", " a"}), rapid.StringN(1, 40, 200))
	return rapid.Custom(func(t *rapid.T) event.Recorded {
		r := event.Recorded{Seq: 7, Event: event.Event{
			ID:            text.Draw(t, "id"),
			Type:          rapid.SampledFrom([]string{"a.b", "task.created"}).Draw(t, "type"),
			StreamID:      text.Draw(t, "stream"),
			CorrelationID: text.Draw(t, "correlation"),
			Actor:         text.Draw(t, "actor"),
			Timestamp:     event.Milli(rapid.Int64Min(0).Draw(t, "time")).Time,
			Payload:       json.RawMessage(strconv.Quote(rapid.StringMatching(`[a-z]{0,300}`).Draw(t, "payload"))),
		}}
		if rapid.Bool().Draw(t, "more") {
			r.CausationID, r.Guard, r.Imported = text.Draw(t, "cause"), "guards.user."+text.Draw(t, "guard"), true
			r.Metadata = json.RawMessage(`{"m":[1]}`)
			r.Extra = []event.Field{{Name: text.Draw(t, "name"), Value: json.RawMessage(`null`)}}
		}
		return r
	})
}

// A message of a batch is that of Encode with the batch's headers, whatever came before
// it in the same memory.
func TestBatchComposesWhatEncodeDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(genWritten(), 1, 6).Draw(t, "events")
		b := wire.NewBatch("an id")
		for i, r := range all {
			want := wire.Encode(r)
			before := maps.Clone(want.Header)
			last := i == len(all)-1
			var got *nats.Msg
			if rapid.IntRange(0, 3).Draw(t, "composed already") == 0 {
				got = b.Message(want, last)
				require.Equal(t, before, want.Header, "what was given stays as it is")
			} else {
				got = b.Event(&r, last)
			}
			want.Header.Set(wire.HeaderBatchID, "an id")
			want.Header.Set(wire.HeaderBatchSequence, strconv.Itoa(i+1))
			if last {
				want.Header.Set(wire.HeaderBatchCommit, "1")
			}
			require.Equal(t, want, got)
		}
	})
}

func TestSizeAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genWritten().Draw(t, "event")
		require.GreaterOrEqual(t, wire.SizeAtMost(&r), wire.Size(wire.Encode(r)))
	})
	control := make([]byte, 200)
	r := recorded("task.created", `{}`)
	r.ID, r.StreamID, r.CausationID, r.CorrelationID, r.Actor, r.Guard = string(control), string(control), string(control), string(control), string(control), string(control)
	r.Timestamp, r.Imported, r.Metadata = time.UnixMilli(1<<63-1), true, json.RawMessage(`{}`)
	r.Extra = []event.Field{{Name: string(control), Value: json.RawMessage(`1`)}}
	require.GreaterOrEqual(t, wire.SizeAtMost(&r), wire.Size(wire.Encode(r)), "where every byte is escaped")
	require.Less(t, wire.SizeAtMost(&r), 8*wire.Size(wire.Encode(r)), "and not beyond measure")
}

func TestOpenBatch(t *testing.T) {
	for _, c := range []struct {
		h    nats.Header
		n    uint64
		open bool
	}{
		{nil, 0, false},
		{nats.Header{wire.HeaderID: {"x"}}, 0, false},
		{nats.Header{wire.HeaderBatchID: {"b"}, wire.HeaderBatchSequence: {"3"}}, 3, true},
		{nats.Header{wire.HeaderBatchID: {"b"}, wire.HeaderBatchSequence: {"3"}, wire.HeaderBatchCommit: {"1"}}, 0, false},
		{nats.Header{wire.HeaderBatchID: {"b"}}, 0, false},
		{nats.Header{wire.HeaderBatchID: {"b"}, wire.HeaderBatchSequence: {"-1"}}, 0, false},
	} {
		n, open := wire.OpenBatch(c.h)
		require.Equal(t, c.open, open, c.h)
		require.Equal(t, c.n, n, c.h)
	}
}
