package bench

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/opencode"
)

// captured is a line of what a real OpenCode 1.18.33 sent.
type captured struct {
	ReceivedAt int64           `json:"received_at"`
	Event      json.RawMessage `json:"event"`
}

func capture(b testing.TB) []captured {
	b.Helper()
	f, err := os.Open("../opencode/testdata/session-events.jsonl.gz")
	require.NoError(b, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(b, err)
	var out []captured
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c captured
		require.NoError(b, json.Unmarshal(lines.Bytes(), &c))
		out = append(out, c)
	}
	require.NoError(b, lines.Err())
	return out
}

// A captured session of OpenCode through `dstream rpc` as fast as it goes, into a new
// log each time, beside as many bare publishes as it stores messages, one at a time.
func BenchmarkOpenCode(b *testing.B) {
	all := capture(b)
	ours, theirs := Measured{Name: "ours"}, Measured{Name: "bare"}
	stored := 0
	for range rounds(4) {
		dir := filepath.Join(b.TempDir(), ".opencode")
		s := serve(b, dir)
		c, bare, conns, err := Join(b.Context(), client.Target{AddressFile: broker.AddressPath(filepath.Join(dir, durablestream.HostDir))})
		require.NoError(b, err)
		took := timed(b, func() { throughRPC(b, dir, "bench", all) })
		position, err := c.Position(b.Context())
		require.NoError(b, err)
		require.Greater(b, position, event.Sequence(100))
		ours.Add(Measured{Name: "ours", Count: len(all), Took: took})
		stored += int(position)
		took = timed(b, func() {
			for range position {
				require.NoError(b, bare.Append(b.Context()))
			}
		})
		theirs.Add(Measured{Name: "bare", Count: int(position), Took: took})
		c.Close()
		for _, nc := range conns {
			nc.Close()
		}
		s.stop(b)
	}
	b.ReportMetric(ours.Rate(), "taken/s")
	b.ReportMetric(float64(stored)/ours.Took.Seconds(), "ours/s")
	b.ReportMetric(theirs.Rate(), "bare/s")
	b.ReportMetric(0, "ns/op")
}

// throughRPC sends all and waits for every answer.
func throughRPC(b testing.TB, dir, instance string, all []captured) {
	b.Helper()
	cmd := exec.Command(program(b), "--dir", dir, "rpc")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	go func() { // whoever only writes, and does not read, waits for ever
		w := bufio.NewWriter(in)
		for i, c := range all {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%d,"method":"opencode.event","params":{"instance":%q,"event":%s}}`+"\n", i+1, instance, c.Event)
		}
		w.Flush()
	}()
	answers := json.NewDecoder(out)
	for answered := 0; answered < len(all); {
		var m struct {
			ID    *int
			Error any
		}
		require.NoError(b, answers.Decode(&m))
		if m.ID != nil {
			require.Nil(b, m.Error)
			answered++
		}
	}
	require.NoError(b, in.Close())
	require.NoError(b, cmd.Wait())
}

// What an event takes on the disk, as stored and with S2 compression of the stream: of
// the events that the captured session makes, again and again under other ids and with
// other letters: else a copy would compress to nothing beside the one before.
func BenchmarkDisk(b *testing.B) {
	var events []event.Event
	tr := opencode.New(opencode.Config{Instance: "bench"})
	for _, c := range capture(b) {
		for _, item := range tr.Take(opencode.Parse(c.Event), time.UnixMilli(c.ReceivedAt)) {
			events = append(events, item.Event)
		}
	}
	const enough = 40_000
	for _, s2 := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "S2"}[s2]
		b.Run(name, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "durable_stream")
			h, err := Start(b.Context(), dir)
			require.NoError(b, err)
			defer func() { require.NoError(b, h.Stop(b.Context())) }()
			if s2 { // which the engine looks at when it opens the store
				s, err := h.Bare.js.Stream(b.Context(), wire.LogName)
				require.NoError(b, err)
				cfg := s.CachedInfo().Config
				cfg.Compression = jetstream.S2Compression
				_, err = h.Bare.js.UpdateStream(b.Context(), cfg)
				require.NoError(b, err)
				require.NoError(b, h.Stop(b.Context()))
				h, err = Start(b.Context(), dir)
				require.NoError(b, err)
			}
			var body, n int
			for n < enough {
				var batch []event.Event
				for len(batch) < event.MaxBatchLen {
					e := events[n%len(events)]
					e.ID, e.CausationID = event.NewID(), ""
					e.Payload = garbled(b, e.Payload, uint64(n/len(events)))
					if _, _, ok := wire.Protected(e); ok { // each may stand behind its guard only once
						e.Type = "opencode.asked"
					}
					body += len(e.AppendJSON(nil))
					batch = append(batch, e)
					n++
				}
				_, err := h.Client.AppendBatch(b.Context(), batch)
				require.NoError(b, err)
			}
			read, err := Turn(b.Context(), 0, 1, Side{"read", func(ctx context.Context) error {
				for _, err := range h.Client.Subscribe(ctx, event.Filter{Limit: n}) {
					if err != nil {
						return err
					}
				}
				return nil
			}, n})
			require.NoError(b, err)
			ours, err := Alternate(b.Context(), Turns{Rounds: rounds(20), For: 20 * time.Millisecond, InFlight: 1}, h.ours())
			require.NoError(b, err)
			bytes, err := Size(filepath.Join(h.Dir, broker.StoreDir))
			require.NoError(b, err)
			report(b, append(ours, read))
			b.ReportMetric(float64(bytes)/float64(n+ours[0].Count), "log-B/event")
			b.ReportMetric(float64(body)/float64(n), "body-B/event")
		})
	}
}

// garbled is a payload with the letters of its texts exchanged for others, the same
// ones everywhere in a copy.
func garbled(b testing.TB, payload json.RawMessage, which uint64) json.RawMessage {
	b.Helper()
	letters := rand.New(rand.NewPCG(which, 0)).Perm(26)
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			return strings.Map(func(r rune) rune {
				if r < 'a' || r > 'z' {
					return r
				}
				return 'a' + rune(letters[r-'a'])
			}, v)
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	var v any
	require.NoError(b, json.Unmarshal(payload, &v))
	out, err := json.Marshal(walk(v))
	require.NoError(b, err)
	return out
}

// An import of files of the original, and the same again, where all is there.
func BenchmarkImport(b *testing.B) {
	h := host(b)
	const n = 50_000
	events := make([]event.Event, n)
	for i := range events {
		events[i] = plain(i, n)
		events[i].Extra = nil
	}
	for _, name := range []string{"new", "again"} {
		took := timed(b, func() {
			r, err := h.Client.Import(b.Context(), "bench", events, nil)
			require.NoError(b, err)
			require.Empty(b, r.Refused)
		})
		b.ReportMetric(n/took.Seconds(), name+"/s")
	}
	b.ReportMetric(0, "ns/op")
}

// One append as a process of its own, beside a host that runs.
func BenchmarkCommand(b *testing.B) {
	dir := filepath.Join(b.TempDir(), ".opencode")
	s := serve(b, dir)
	idle := s.resident(b)
	m := Measured{Name: "append"}
	for range rounds(20) {
		m.Times = append(m.Times, timed(b, func() { run(b, dir, "append", "task.created", "--stream", "s", "--actor", "a") }))
	}
	report(b, []Measured{m})
	b.ReportMetric(idle, "idle-MB")
	b.ReportMetric(s.resident(b), "after-MB")
}
