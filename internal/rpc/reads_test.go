package rpc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// An answer is what encoding/json makes of it, and holds events that encoding/json does
// not take: those that are nested as deep as earlier versions stored them.
func TestAnswersHoldEvents(t *testing.T) {
	t.Parallel()
	r := event.Recorded{Event: event.Event{ID: "é\"", Type: "a.b", StreamID: "s", Actor: "<a>", CorrelationID: "c", Payload: []byte(`{"a":"\u2028<"}`)}, Seq: 7, Imported: true}
	require.JSONEq(t, `{"events":[],"position":3,"more":false}`, string(encode(page{Position: 3})))
	all := encode(page{Events: []event.Recorded{r, r}, Position: 7, More: true})
	var got struct {
		Events   []json.RawMessage
		Position int
		More     bool
	}
	require.NoError(t, json.Unmarshal(all, &got))
	require.Equal(t, []json.RawMessage{r.AppendJSON(nil), r.AppendJSON(nil)}, got.Events)
	require.Equal(t, 7, got.Position)
	require.True(t, got.More)
	require.Equal(t, `{"subscription":"s \"","seq":7,"event":`+string(r.AppendJSON(nil))+`}`, string(encode(delivery{`s "`, r})))

	r.Payload = []byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000))
	require.Contains(t, string(encode(page{Events: []event.Recorded{r}})), string(r.AppendJSON(nil)))
}
