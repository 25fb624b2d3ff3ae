package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

func TestMain(m *testing.M) { brokertest.Main(m) }

// configOf is a mirror of h's Log in a directory of its own.
func configOf(t testing.TB, h *brokertest.Host) Config {
	return Config{Client: h.Client, Dir: t.TempDir(), NoDaily: true, VerifyWait: -1}
}

// mixed is n events of the kinds that go wrong most easily.
func mixed(n int) []event.Event {
	payloads := []string{
		`{"x":1}`, `{ "a" : "<b>&amp;</b>", "n": 123456789012345678901234567890 }`, `"ü 😀 \u00e9 \ud83d\ude00 \u2028"`,
		`[1.0,-0,1e400,"\\\"\n"]`, `null`, `{"chain":"no","seq":0,"deep":{"chain":"0000"}}`, `""`, `{"tab":"\t\u0000"}`,
	}
	var out []event.Event
	for i := range n {
		e := event.Event{
			Type: "test.mixed", StreamID: fmt.Sprintf("ses.%d é", i%3), Actor: "agent/ü <x>",
			Payload: json.RawMessage(payloads[i%len(payloads)]),
		}
		if i%3 == 1 {
			e.Metadata = json.RawMessage(`{ "m":  ["<", 2] }`)
			e.Extra = []event.Field{{Name: "sessionId", Value: json.RawMessage(`"x"`)}}
		}
		out = append(out, e)
	}
	return out
}

func appendAll(t testing.TB, c *client.Client, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		_, err := c.Append(t.Context(), e)
		require.NoError(t, err)
	}
}

// guard writes a guard, which makes no line.
func guard(t testing.TB, h *brokertest.Host, subject string) {
	t.Helper()
	raw(t, h, subject, []byte(`{}`))
}

func raw(t testing.TB, h *brokertest.Host, subject string, body []byte) {
	t.Helper()
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), wire.EncodeGuard(subject, body))
	require.NoError(t, err)
}

// position is the Log's.
func position(t testing.TB, c *client.Client) event.Sequence {
	t.Helper()
	p, err := c.Position(t.Context())
	require.NoError(t, err)
	return p
}

// expected composes what the files must hold, from the Log, by other means than
// the package does.
func expected(t testing.TB, c *client.Client) string {
	t.Helper()
	var out strings.Builder
	before := strings.Repeat("0", 64)
	end := position(t, c)
	if end == 0 {
		return ""
	}
	for m, err := range c.Feed(t.Context(), client.FeedConfig{Subjects: []string{wire.AllEvents}, Until: end}) {
		require.NoError(t, err)
		if _, err := wire.Decode(m.Subject, m.Data, m.Seq); err != nil {
			continue
		}
		body := strings.Trim(string(m.Data), " \t")
		core := fmt.Sprintf(`{"seq":%d,%s`, m.Seq, body[1:len(body)-1])
		sum := sha256.Sum256([]byte(before + core))
		before = hex.EncodeToString(sum[:])
		fmt.Fprintf(&out, "%s,\"chain\":\"%s\"}\n", core, before)
	}
	return out.String()
}

// content is all files one after the other.
func content(t testing.TB, dir string) string {
	t.Helper()
	files, err := list(dir)
	require.NoError(t, err)
	var out bytes.Buffer
	for _, f := range files {
		b, err := os.ReadFile(f.path)
		require.NoError(t, err)
		out.Write(b)
	}
	return out.String()
}

// requireEqual checks the files against the Log, byte for byte and with Verify.
func requireEqual(t testing.TB, cfg Config) {
	t.Helper()
	want, got := expected(t, cfg.Client), content(t, cfg.Dir)
	if want != got { // a megabyte in a message helps nobody
		i := 0
		for i < min(len(want), len(got)) && want[i] == got[i] {
			i++
		}
		require.FailNow(t, "the mirror differs from the Log", "at byte %d of %d (%d wanted): %.200q", i, len(got), len(want), got[max(0, i-100):])
	}
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, report.Problem)
	require.EqualValues(t, strings.Count(want, "\n"), report.Lines)
}

// running is a Run in the background.
type running struct {
	last   atomic.Pointer[Progress]
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, cfg Config) *running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{cancel: cancel, done: make(chan error, 1)}
	next := cfg.Progress
	cfg.Progress = func(p Progress) {
		r.last.Store(&p)
		if next != nil {
			next(p)
		}
	}
	go func() { r.done <- Run(ctx, cfg) }()
	t.Cleanup(func() { cancel() })
	return r
}

// reach waits until the files hold the Log up to seq.
func (r *running) reach(t testing.TB, seq event.Sequence) {
	t.Helper()
	require.Eventually(t, func() bool {
		p := r.last.Load()
		return p != nil && p.Seq >= seq
	}, 20*time.Second, time.Millisecond)
}

// stop ends the run and returns its error.
func (r *running) stop(t testing.TB) error {
	t.Helper()
	r.cancel()
	return r.wait(t)
}

func (r *running) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		require.FailNow(t, "Run did not return")
		return nil
	}
}

// catchUp runs the mirror until it has all of the Log.
func catchUp(t testing.TB, cfg Config) {
	t.Helper()
	r := start(t, cfg)
	r.reach(t, position(t, cfg.Client))
	require.NoError(t, r.stop(t))
}

// put writes files into a directory.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	old, err := list(dir)
	require.NoError(t, err)
	for _, f := range old {
		require.NoError(t, os.Remove(f.path))
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
}

// get reads the files of a directory.
func get(t testing.TB, dir string) map[string]string {
	t.Helper()
	files, err := list(dir)
	require.NoError(t, err)
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f.path)
		require.NoError(t, err)
		out[filepath.Base(f.path)] = string(b)
	}
	return out
}

func names(files map[string]string) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
