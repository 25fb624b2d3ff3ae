package mirror

import (
	"context"
	"strings"
	"testing"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// What the mirror does with each message, but for the disk.
func BenchmarkGather(b *testing.B) {
	m := wire.Encode(event.Recorded{Event: event.Event{
		ID: event.NewID(), Type: "execution.tool_finish", StreamID: "ses_7", CorrelationID: event.NewID(), Actor: "agent/worker",
		Timestamp: time.UnixMilli(1_760_000_000_000), Payload: []byte(`{"text":"` + strings.Repeat("durable ", 21) + `"}`),
	}})
	g := newGather(Config{}.withDefaults(), 0, origin)
	b.SetBytes(int64(len(m.Data)))
	b.ReportAllocs()
	seq := event.Sequence(0)
	for b.Loop() {
		seq++
		if err := g.add(context.Background(), client.Message{Subject: m.Subject, Data: m.Data, Seq: seq, Pending: 1, Stored: time.Time{}}); err != nil {
			b.Fatal(err)
		}
		if len(g.b.data) >= g.cfg.batchBytes {
			g.reuse(g.take())
		}
	}
}

func BenchmarkAppendLine(b *testing.B) {
	body := []byte(`{"text":"` + strings.Repeat("durable ", 49) + `"}`)
	sum, at := newChainer(), origin
	buf := make([]byte, 0, 1024)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		_, at = sum.appendLine(buf, 123456, body, at)
	}
}
