package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.Custom(func(t *rapid.T) wire.Stored {
			return wire.Stored{
				Seq: event.Sequence(rapid.Uint64().Draw(t, "seq")), Time: rapid.Int64().Draw(t, "time"), Subject: rapid.String().Draw(t, "subject"),
				Header: rapid.SliceOf(rapid.Byte()).Draw(t, "header"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			}
		})
		f := wire.Found{Through: event.Sequence(rapid.Uint64().Draw(t, "through")), More: rapid.Bool().Draw(t, "more"), Node: rapid.StringMatching(`[a-z]*`).Draw(t, "node")}
		f.Messages = rapid.SliceOfN(message, 1, 5).Draw(t, "messages")
		var body []byte
		for _, s := range f.Messages {
			before := len(body)
			body = wire.AppendStored(body, s)
			require.Equal(t, wire.StoredSize(s), len(body)-before)
		}
		m := wire.EncodeFound(f, body)
		got, err := wire.DecodeFound(m)
		require.NoError(t, err)
		require.Equal(t, f, got)
		m.Data = body[:rapid.IntRange(1, len(body)-1).Draw(t, "cut")]
		if got, err := wire.DecodeFound(m); err == nil { // cut between two messages
			require.Less(t, len(got.Messages), len(f.Messages))
		}
		m.Header = nil
		_, err = wire.DecodeFound(m)
		require.Error(t, err)
	})
	_, err := wire.DecodeFind([]byte("{"))
	require.Error(t, err)
	q := wire.Find{Log: 1, After: 2, Until: 3, Subjects: []string{"events.>"}, Actor: "a", Correlation: "c", Since: 4, Before: 5, Limit: 6, NoHeaders: true}
	got, err := wire.DecodeFind(q.Encode())
	require.NoError(t, err)
	require.Equal(t, q, got)
}

func TestBusy(t *testing.T) {
	m := wire.EncodeBusy(250 * time.Millisecond)
	retry, busy := wire.Busy(m)
	require.True(t, busy)
	require.Equal(t, 250*time.Millisecond, retry)
	_, err := wire.DecodeFound(m) // as a program of an older version reads it
	require.Error(t, err)
	require.False(t, json.Valid(m.Data))
	_, busy = wire.Busy(wire.EncodeFound(wire.Found{Through: 3}, nil))
	require.False(t, busy)
	for _, odd := range []string{"", "x", "-1", "0", "99999999999999999999"} {
		m.Header["Ds-Busy"] = []string{odd}
		retry, busy = wire.Busy(m)
		require.True(t, busy, odd)
		require.Equal(t, 10*time.Second, retry, odd)
	}
}
