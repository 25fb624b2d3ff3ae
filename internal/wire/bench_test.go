package wire_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/wire"
)

// plainMessages are of one event as in bench: its body has 400 bytes.
func plainMessages(testing.TB) []*nats.Msg {
	return []*nats.Msg{wire.Encode(event.Recorded{Event: event.Event{
		ID: event.NewID(), Type: "execution.tool_finish", StreamID: "ses_7", CorrelationID: event.NewID(), Actor: "agent/worker",
		Timestamp: time.UnixMilli(1_760_000_000_000), Payload: json.RawMessage(`{"text":"` + strings.Repeat("durable ", 21) + `"}`),
	}})}
}

// capturedMessages are of the events that a real OpenCode 1.18.33 sent.
func capturedMessages(t testing.TB) []*nats.Msg {
	f, err := os.Open("../agents/opencode/testdata/session-events.jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var out []*nats.Msg
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c struct {
			Event struct {
				ID, Type   string
				Properties json.RawMessage
			}
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		e := event.Event{
			ID: c.Event.ID, Type: c.Event.Type, StreamID: "ses_dfc762fbaffeYIW0menfjVz3UL", CorrelationID: "ses_dfc762fbaffeYIW0menfjVz3UL",
			Actor: "agent/build", Timestamp: time.UnixMilli(1_795_355_693_126), Payload: c.Event.Properties,
		}
		require.NoError(t, e.Validate())
		out = append(out, wire.Encode(event.Recorded{Event: e}))
	}
	require.NoError(t, lines.Err())
	return out
}

func BenchmarkDecode(b *testing.B) {
	for _, of := range []struct {
		name     string
		messages func(testing.TB) []*nats.Msg
	}{{"plain", plainMessages}, {"opencode", capturedMessages}} {
		b.Run(of.name, func(b *testing.B) {
			messages := of.messages(b)
			size := 0
			for _, m := range messages {
				size += len(m.Data)
			}
			b.SetBytes(int64(size / len(messages)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				m := messages[i%len(messages)]
				i++
				if _, err := wire.Decode(m.Subject, m.Data, 7); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
