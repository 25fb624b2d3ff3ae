package durablestream_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/event"
	"durablestream/internal/legacy"
	"durablestream/internal/longtest"
	"durablestream/mirror"
)

func openIn(t *testing.T, dir string, change ...func(*durablestream.Config)) *durablestream.DurableStream {
	t.Helper()
	cfg := durablestream.Config{Dir: dir}
	for _, f := range change {
		f(&cfg)
	}
	d, err := durablestream.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func collect(t *testing.T, d *durablestream.DurableStream, f event.Filter) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range d.Query(t.Context(), f) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func verifyClean(t *testing.T, d *durablestream.DurableStream) mirror.Report {
	t.Helper()
	report, err := mirror.Verify(t.Context(), mirror.Config{Client: d.Client(), Dir: d.Dir()})
	require.NoError(t, err)
	require.NoError(t, report.Problem)
	return report
}

// readLegacy reads the original module's file of testdata.
func readLegacy(t *testing.T) []event.Event {
	t.Helper()
	f, err := os.Open("internal/legacy/testdata/durable_stream.jsonl")
	require.NoError(t, err)
	defer f.Close()
	var events []event.Event
	for line, err := range legacy.Read(f, f.Name()) {
		require.NoError(t, err)
		require.NoError(t, line.Err)
		events = append(events, line.Event)
	}
	return events
}

func TestImportKeepsEveryFieldAndRepeats(t *testing.T) {
	t.Parallel()
	// A window of 100 ms has passed long before the second import, and ids that the
	// engine has forgotten are still not stored again.
	d := openIn(t, t.TempDir(), func(c *durablestream.Config) { c.DuplicateWindow = 100 * time.Millisecond })
	events := readLegacy(t)
	require.Len(t, events, 860)
	report, err := d.Admin().Import(t.Context(), "original", events, nil)
	require.NoError(t, err)
	require.Equal(t, 860, report.Stored)
	require.Empty(t, report.Refused)

	raw, err := os.ReadFile("internal/legacy/testdata/durable_stream.jsonl")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	got := collect(t, d, event.Filter{})
	require.Len(t, got, len(lines))
	for i, r := range got {
		require.True(t, r.Imported)
		var was, is map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &was))
		require.NoError(t, json.Unmarshal(r.AppendJSON(nil), &is))
		for key, v := range was {
			require.Equal(t, string(v), string(is[key]), "line %d, %s", i+1, key)
		}
	}
	position, err := d.Position(t.Context())
	require.NoError(t, err)

	for !windowPassed(t, d) { // until the engine has forgotten the ids of the first appends
	}
	before := len(collect(t, d, event.Filter{}))
	report, err = d.Admin().Import(t.Context(), "original", events, nil)
	require.NoError(t, err)
	require.Zero(t, report.Stored)
	require.Equal(t, 860, report.Present)
	require.Len(t, collect(t, d, event.Filter{}), before)
	after, err := d.Position(t.Context())
	require.NoError(t, err)
	require.Greater(t, after, position)
	verifyClean(t, d)
}

// windowPassed appends an event under an id that it has used before; it is true
// when the engine had forgotten that and stored it again.
func windowPassed(t *testing.T, d *durablestream.DurableStream) bool {
	e := event.Event{ID: "probe", Type: "test.probe", StreamID: "probe", Actor: "test"}
	_, err := d.Append(t.Context(), e)
	require.NoError(t, err)
	return len(collect(t, d, event.Filter{StreamID: "probe"})) > 1
}

func TestTwoImportsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events := readLegacy(t)
	d := openIn(t, dir)
	other := openIn(t, dir)
	require.False(t, other.Hosting())
	done := make(chan error, 2)
	for _, c := range []*durablestream.DurableStream{d, other} {
		go func() {
			_, err := c.Admin().Import(t.Context(), "original", events, nil)
			done <- err
		}()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.Len(t, collect(t, d, event.Filter{}), 860)
	verifyClean(t, d)
}

// captured gives the bus events of a real OpenCode, each wrapped as one event, and
// synthetic ones that are hard to keep.
func captured(t *testing.T) []event.Event {
	t.Helper()
	f, err := os.Open("testdata/session-events.jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var events []event.Event
	for r := bufio.NewReader(z); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		var b struct {
			Event struct {
				Type       string
				Properties struct{ SessionID string }
			}
		}
		require.NoError(t, json.Unmarshal(line, &b))
		stream := b.Event.Properties.SessionID
		if stream == "" {
			stream = "no session"
		}
		events = append(events, event.Event{
			Type: "opencode." + b.Event.Type, StreamID: stream, Actor: "opencode", Payload: bytes.TrimSpace(line),
		})
	}
	require.Len(t, events, 8696)
	text := strings.Repeat(`\u00e9 é 🙂 <>& \"quoted\" \\ `, 1)
	big := func(n int) json.RawMessage { return []byte(`{"text":"` + strings.Repeat("x<é>&", n/6) + `"}`) }
	for _, payload := range []json.RawMessage{
		big(1_200_000), big(7_900_000),
		[]byte(`123456789012345678901234567890`),
		[]byte(`{"n":123456789012345678901234567890.123456789012345678901234567890,"e":1e400,"z":-0.0}`),
		[]byte(`"` + text + `"`), []byte(`null`), []byte(`[]`), []byte(`{"a":1,"a":2}`), []byte(`"\ud800"`),
	} {
		events = append(events, event.Event{Type: "test.synthetic", StreamID: "s. *>%é", Actor: "<é>&", Payload: payload})
	}
	return events
}

func TestRealEventsComeOutEqualAndTheMirrorIsTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openIn(t, dir)
	events := captured(t)
	events = events[longtest.Pick(len(events)-900, 0):] // the hard ones are the last
	for i := 0; i < len(events); i += 900 {
		chunk := events[i:min(i+900, len(events))]
		_, err := d.AppendBatch(t.Context(), chunk)
		require.NoError(t, err)
	}
	got := collect(t, d, event.Filter{})
	require.Len(t, got, len(events))
	for i, r := range got {
		require.Equal(t, events[i].Type, r.Type)
		require.Equal(t, events[i].StreamID, r.StreamID)
		require.Equal(t, events[i].Actor, r.Actor)
		require.True(t, bytes.Equal(event.Compact(events[i].Payload), r.Payload), "payload of event %d", i)
	}
	report := verifyClean(t, d)
	require.EqualValues(t, len(events), report.Lines)

	// Line for line: the file is what the query prints, and the chain.
	file, err := os.ReadFile(durablestream.MirrorPath(d.Dir()))
	require.NoError(t, err)
	lines := bytes.Split(bytes.TrimSuffix(file, []byte("\n")), []byte("\n"))
	require.Len(t, lines, len(got))
	for i, r := range got {
		text := r.AppendJSON(nil)
		require.True(t, bytes.HasPrefix(lines[i], text[:len(text)-1]), "line %d", i+1)
	}
}

func TestRestoreAfterTheStoreIsDeleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := t.Context()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir, MirrorMaxBytes: 256 << 10})
	require.NoError(t, err)
	_, err = d.Admin().Import(ctx, "original", readLegacy(t), nil) // with guards, so with gaps
	require.NoError(t, err)
	for i := range 20 {
		_, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "s", Actor: "a", Payload: fmt.Appendf(nil, "%d", i)})
		require.NoError(t, err)
	}
	was := collect(t, d, event.Filter{})
	require.NoError(t, d.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir)))

	// The mirror is ahead of the empty log: no process hosts that.
	_, err = durablestream.Open(ctx, durablestream.Config{Dir: dir})
	var ahead *mirror.AheadError
	require.ErrorAs(t, err, &ahead)
	require.ErrorContains(t, err, "dstream restore")

	restore := func() error {
		d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir, Command: durablestream.Command{NoMirror: true, Restoring: true}})
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		_, err = mirror.Restore(ctx, mirror.RestoreConfig{Client: d.Client(), Conn: d.Admin().Conn(), From: []string{dir}, Recreate: d.Admin().RecreateLog})
		return err
	}
	require.NoError(t, restore())
	require.ErrorIs(t, restore(), mirror.ErrNotEmpty)

	d = openIn(t, dir)
	require.Equal(t, was, collect(t, d, event.Filter{}))
	verifyClean(t, d)
	r, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	require.Equal(t, was[len(was)-1].Seq+1, r.Seq)
	// Imported again, nothing is new: what was decided is there.
	report, err := d.Admin().Import(ctx, "original", readLegacy(t), nil)
	require.NoError(t, err)
	require.Zero(t, report.Stored)
}

func TestJoinSeesWhatTheHostHas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := openIn(t, dir)
	require.True(t, host.Hosting())
	joined := openIn(t, dir, func(c *durablestream.Config) { c.JoinOnly = true })
	require.False(t, joined.Hosting())
	r, err := joined.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	require.Equal(t, []event.Recorded{r}, collect(t, host, event.Filter{}))
	status, err := joined.Admin().HostStatus(t.Context())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), status.PID)
}

func TestJoinOnlySaysThatNobodyHosts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := durablestream.Open(ctx, durablestream.Config{Dir: t.TempDir(), JoinOnly: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no host")
}

// A host that lives for one append writes the mirror up to it, however short its
// life: also when it ends before the mirror has made its checks.
func TestABriefHostWritesTheMirror(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := []byte(`"` + strings.Repeat("x", 4<<20) + `"`) // slow to check at resume
	for i := range longtest.Pick(2, 24) {
		e := event.Event{Type: "task.created", StreamID: "s", Actor: "a"}
		if i%6 == 0 {
			e.Payload = large
		}
		d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
		require.NoError(t, err)
		_, err = d.Append(t.Context(), e)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		file, err := os.ReadFile(durablestream.MirrorPath(dir))
		require.NoError(t, err)
		require.Equal(t, i+1, bytes.Count(file, []byte("\n")))
	}
}
