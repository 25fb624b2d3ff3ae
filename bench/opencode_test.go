package bench

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/measure"
	"durablestream/internal/wire"
)

// captured is a line of what a real OpenCode 1.18.33 sent.
type captured struct {
	ReceivedAt int64           `json:"received_at"`
	Event      json.RawMessage `json:"event"`
}

func capture(b testing.TB) []captured {
	b.Helper()
	f, err := os.Open("../internal/agents/opencode/testdata/session-events.jsonl.gz")
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

// A captured session of OpenCode through `dstream rpc` as fast as it goes, into a new log
// each time, beside bare publishes of the very messages that it stores, in their order: one
// at a time, since the order counts, and in atomic batches, which `dstream rpc` makes of
// what waits.
func BenchmarkOpenCode(b *testing.B) {
	all := capture(b)
	var stored []*nats.Msg
	session := func(f func(dir string, c *client.Client, bare *measure.Bare)) {
		dir := filepath.Join(b.TempDir(), ".opencode")
		s := serve(b, dir)
		c, bare, conns, err := measure.Join(b.Context(), client.Target{AddressFile: broker.AddressPath(filepath.Join(dir, durablestream.HostDir))})
		require.NoError(b, err)
		f(dir, c, bare)
		leave(c, conns)
		s.stop(b)
	}
	ours, alone, batched := measure.Measured{Name: "ours"}, measure.Measured{Name: "bare"}, measure.Measured{Name: "batch"}
	turns := []func(*measure.Measured){
		func(m *measure.Measured) {
			session(func(dir string, c *client.Client, _ *measure.Bare) {
				m.Took += timed(b, func() { throughRPC(b, dir, "bench", all) })
				stored = messages(b, c)
				m.Count += len(stored)
			})
		},
		func(m *measure.Measured) {
			session(func(_ string, _ *client.Client, bare *measure.Bare) {
				m.Took += timed(b, func() {
					for _, msg := range stored {
						_, err := bare.JS.PublishMsg(b.Context(), msg)
						require.NoError(b, err)
					}
				})
				m.Count += len(stored)
			})
		},
		func(m *measure.Measured) {
			session(func(_ string, _ *client.Client, bare *measure.Bare) {
				copies := make([]*nats.Msg, len(stored)) // Store adds headers to them
				for i, msg := range stored {
					copies[i] = &nats.Msg{Subject: msg.Subject, Header: maps.Clone(msg.Header), Data: msg.Data}
				}
				m.Took += timed(b, func() {
					for part := range slices.Chunk(copies, 500) {
						require.NoError(b, bare.Store(b.Context(), part))
					}
				})
				m.Count += len(stored)
			})
		},
	}
	turns[0](&measure.Measured{}) // what there is to store
	taken := 0
	for round := range rounds(4) {
		for k := range turns {
			i := (k + round) % len(turns)
			turns[i]([]*measure.Measured{&ours, &alone, &batched}[i])
		}
		taken += len(all)
	}
	b.ReportMetric(float64(taken)/ours.Took.Seconds(), "taken/s")
	for _, m := range []measure.Measured{ours, alone, batched} {
		b.ReportMetric(m.Rate(), m.Name+"/s")
	}
	b.ReportMetric(0, "ns/op")
}

// messages are what a log holds, as messages that another log takes.
func messages(b testing.TB, c *client.Client) []*nats.Msg {
	b.Helper()
	position, err := c.Position(b.Context())
	require.NoError(b, err)
	require.Greater(b, position, event.Sequence(100))
	var out []*nats.Msg
	for m, err := range c.Feed(b.Context(), client.FeedConfig{Until: position}) {
		require.NoError(b, err)
		header := nats.Header{}
		for name, v := range m.Header {
			if name == wire.HeaderID || !strings.HasPrefix(name, "Nats-") { // the others are conditions, and of batches
				header[name] = v
			}
		}
		out = append(out, &nats.Msg{Subject: m.Subject, Header: header, Data: m.Data})
	}
	require.Len(b, out, int(position))
	return out
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
	hosts := []*measure.Host{compressing(b, jetstream.NoCompression), compressing(b, jetstream.S2Compression)}
	const enough = 40_000
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
		for _, h := range hosts {
			_, err := h.Client.AppendBatch(b.Context(), batch)
			require.NoError(b, err)
		}
	}
	indexed(b, hosts[0]) // a host makes none of blocks that are compressed
	var reads, appends []measure.Side
	for i, name := range []string{"plain", "S2"} {
		h := hosts[i]
		bytes, events := full(b, h) // the newest block is compressed once it is full, and there are few here
		require.Positive(b, events)
		b.ReportMetric(float64(bytes)/float64(events), name+"-log-B/event")
		appends = append(appends, measure.Side{Name: name, Op: measure.Appender(h.Client)})
		reads = append(reads, measure.Side{Name: name + "-read", Op: func(ctx context.Context) error {
			for _, err := range h.Client.Subscribe(ctx, event.Filter{Limit: n}) {
				if err != nil {
					return err
				}
			}
			return nil
		}, Each: n})
	}
	b.ReportMetric(float64(body)/float64(n), "body-B/event")
	read, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(4), For: 0, InFlight: 1}, reads...)
	require.NoError(b, err)
	appended, err := measure.Alternate(b.Context(), measure.Turns{Rounds: rounds(20), For: 20 * time.Millisecond, InFlight: 1}, appends...)
	require.NoError(b, err)
	report(b, append(appended, read...))
}

// compressing is a host whose log is stored with a compression.
func compressing(b *testing.B, how jetstream.StoreCompression) *measure.Host {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "durable_stream")
	h, err := measure.Start(b.Context(), dir)
	require.NoError(b, err)
	if how != jetstream.NoCompression { // which the engine looks at when it opens the store
		s, err := h.Bare.JS.Stream(b.Context(), wire.LogName)
		require.NoError(b, err)
		cfg := s.CachedInfo().Config
		cfg.Compression = how
		_, err = h.Bare.JS.UpdateStream(b.Context(), cfg)
		require.NoError(b, err)
		require.NoError(b, h.Stop(b.Context()))
		h, err = measure.Start(b.Context(), dir)
		require.NoError(b, err)
	}
	b.Cleanup(func() { require.NoError(b, h.Stop(context.Background())) })
	return h
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

// An import of files of the original, and the same again, where all is there. Each round has
// a log of its own.
func BenchmarkImport(b *testing.B) {
	const n = 50_000
	events := make([]event.Event, n)
	for i := range events {
		events[i] = measure.Plain(i, n)
		events[i].Extra = nil
	}
	var got [2]measure.Measured
	for range rounds(3) {
		h := host(b)
		for i := range got {
			got[i].Count += n
			got[i].Took += timed(b, func() {
				r, err := h.Client.Admin().Import(b.Context(), "bench", events, nil)
				require.NoError(b, err)
				require.Empty(b, r.Refused)
			})
		}
	}
	b.ReportMetric(got[0].Rate(), "new/s")
	b.ReportMetric(got[1].Rate(), "again/s")
	b.ReportMetric(0, "ns/op")
}

// One append as a process of its own, beside a host that runs.
func BenchmarkCommand(b *testing.B) {
	dir := filepath.Join(b.TempDir(), ".opencode")
	s := serve(b, dir)
	idle := s.resident(b)
	m := measure.Measured{Name: "append"}
	for range rounds(20) {
		m.Times = append(m.Times, timed(b, func() { run(b, dir, "append", "task.created", "--stream", "s", "--actor", "a") }))
	}
	report(b, []measure.Measured{m})
	b.ReportMetric(idle, "idle-MB")
	b.ReportMetric(s.resident(b), "after-MB")
}
