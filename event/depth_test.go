package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// nested is n arrays in each other.
func nested(n int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
}

// Whatever the event's own object holds, MaxDepth counts the whole of it.
func TestMaxDepthIsOfTheWholeEvent(t *testing.T) {
	t.Parallel()
	const fits = event.MaxDepth - 1
	for name, put := range map[string]func(*event.Event, json.RawMessage){
		"payload": func(e *event.Event, v json.RawMessage) { e.Payload = v },
		"metadata": func(e *event.Event, v json.RawMessage) {
			e.Metadata = json.RawMessage(`{"a":` + string(v[1:len(v)-1]) + `}`)
		},
		"x": func(e *event.Event, v json.RawMessage) { e.Extra = []event.Field{{Name: "x", Value: v}} },
	} {
		e := mustDecode(t, `{`+head+`,"payload":{}}`)
		put(&e, nested(fits))
		require.NoError(t, e.Validate(), name)
		body := event.Recorded{Event: e, Guard: "g", Imported: true}.AppendBody(nil)
		require.True(t, json.Valid(body), name)
		_, err := event.DecodeBody(body)
		require.NoError(t, err, name)
		_, err = event.Decode(e.AppendJSON(nil))
		require.NoError(t, err, name)

		put(&e, nested(fits+1))
		requireInvalid(t, e.Validate(), name, "must be nested at most 999 levels deep")
		_, err = event.Decode(e.AppendJSON(nil))
		requireInvalid(t, err, "line", "must be nested at most 1000 levels deep")
	}
}

// What versions without the limit took as a value is read with the event around it:
// 10,000 levels, and one.
func TestDeepStoredEventsAreRead(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, `{`+head+`,"payload":{}}`)
	e.Payload = nested(10_000)
	r := event.Recorded{Event: e, Seq: 4}
	got, err := event.DecodeBody(r.AppendBody(nil))
	require.NoError(t, err)
	require.Equal(t, e, got.Event)
	got, err = event.DecodeRecorded(r.AppendJSON(nil))
	require.NoError(t, err)
	require.Equal(t, r, got)

	r.Payload, r.Extra = json.RawMessage("1"), []event.Field{{Name: "x", Value: nested(10_000)}} // which takes the long way
	got, err = event.DecodeBody(r.AppendBody(nil))
	require.NoError(t, err)
	require.Equal(t, r.Event, got.Event)

	for _, payload := range []json.RawMessage{nested(10_001), nested(1_000_000)} {
		r := event.Recorded{Event: e, Seq: 4}
		r.Payload = payload
		_, err = event.DecodeBody(r.AppendBody(nil))
		require.ErrorContains(t, err, "must be one JSON object")
	}
}
