package client_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// some are the words of the events that these tests append.
var some = struct{ streams, types, actors, runs []string }{
	[]string{"ses_1", "ses.2", "ses*3", "sés 4", "%", ">"},
	[]string{"task.created", "task.done", "task.done.late", "tool.used", "a.b.c.d.e.f.g.h", "guards.request"},
	[]string{"user", "agent/planner", "agent/ünsafe", " agent"},
	[]string{"run_1", "run_2", "läuft"},
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// fillBlocks appends events until the engine has filled n blocks, and gives all that the Log
// holds.
func fillBlocks(t *testing.T, h *brokertest.Host, r *rand.Rand, n int) (all []event.Recorded) {
	t.Helper()
	text := strings.Repeat("x", 20<<10)
	for h.Broker.Indexed() == 0 || len(files(t, h)) <= n {
		batch := make([]event.Event, 100)
		for i := range batch {
			batch[i] = event.Event{
				Type: pick(r, some.types), StreamID: pick(r, some.streams), Actor: pick(r, some.actors), CorrelationID: pick(r, some.runs),
				Timestamp: time.UnixMilli(1_760_000_000_000 + r.Int64N(1_000_000)), Payload: fmt.Appendf(nil, `{"n":%d,"text":%q}`, i, text[:r.IntN(len(text))]),
			}
			if i%10 == 0 {
				batch[i].Type = event.AgentSpawned
				batch[i].Payload = fmt.Appendf(nil, `{"id":%q,"text":%q}`, event.NewID(), text[:r.IntN(len(text))])
			}
		}
		rs, err := h.Client.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
		all = append(all, rs...)
	}
	indexed(t, h)
	return all
}

func files(t *testing.T, h *brokertest.Host) []blocks.File {
	t.Helper()
	dirs, err := blocks.Find(filepath.Join(h.Config.Dir, broker.StoreDir))
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	f, err := blocks.List(dirs[0])
	require.NoError(t, err)
	return f
}

// indexed waits until all blocks have an index that the engine has filled.
func indexed(t *testing.T, h *brokertest.Host) {
	t.Helper()
	all := files(t, h)
	b, err := blocks.CheckFile(all[len(all)-2])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.Broker.Indexed() >= b.Last }, 20*time.Second, 5*time.Millisecond)
}

func randomFilter(r *rand.Rand, last event.Sequence) (f event.Filter) {
	if r.IntN(2) == 0 {
		f.StreamID = pick(r, append(some.streams, "nobody's"))
	}
	if r.IntN(2) == 0 {
		f.Types = []string{pick(r, append(some.types, "task.*", "task.>", "*.*", "agent.spawned", "no.such", "a.b.>", "*.done.*", ">"))}
		if r.IntN(3) == 0 {
			f.Types = append(f.Types, pick(r, some.types))
		}
	}
	if r.IntN(3) == 0 {
		f.Actor = pick(r, append(some.actors, "nobody"))
	}
	if r.IntN(3) == 0 {
		f.CorrelationID = pick(r, append(some.runs, "none"))
	}
	if r.IntN(3) == 0 {
		f.Since = time.UnixMilli(1_760_000_000_000 + r.Int64N(1_000_000))
	}
	if r.IntN(3) == 0 {
		f.Until = time.UnixMilli(max(event.Time{Time: f.Since}.Milli(), 1_760_000_000_000) + r.Int64N(1_000_000))
	}
	if r.IntN(3) == 0 {
		f.After = event.Sequence(r.Uint64N(uint64(last)))
	}
	switch r.IntN(5) {
	case 0:
		f.Limit = 1 + r.IntN(50)
	case 1:
		f.Last = 1 + r.IntN(50)
	}
	return f
}

// short is enough of an event to tell it from all others.
func short(e event.Recorded) string {
	return fmt.Sprint(e.Seq, e.ID, e.Type, e.StreamID, e.Actor, e.Timestamp, crc32.ChecksumIEEE(e.Payload))
}

func matching(all []event.Recorded, f event.Filter) []string {
	var out []string
	for _, e := range all {
		if f.Match(e) {
			out = append(out, short(e))
		}
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	if f.Last > 0 && len(out) > f.Last {
		out = out[len(out)-f.Last:]
	}
	return out
}

func ask(t *testing.T, c *client.Client, f event.Filter) (out []string) {
	t.Helper()
	for e, err := range c.Query(t.Context(), f) {
		require.NoError(t, err, "%+v", f)
		out = append(out, short(e))
	}
	return out
}

// The host finds by its index the same events as a reader of the whole Log: with the
// index in files and in memory, after a restart, and with an index that was removed, cut
// off, emptied, flipped at any place, or belongs to another Log's block.
func TestQueriesByTheIndex(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the index is a host's of ours")
	r := rand.New(rand.NewPCG(7, 7))
	h := brokertest.Start(t)
	all := fillBlocks(t, h, r, longtest.Pick(2, 3))
	dir := filepath.Join(h.Config.Dir, broker.StoreDir, broker.IndexDir)
	check := func(what string, n int) {
		t.Helper()
		for range longtest.Pick(max(n/16, 1), n) {
			f := randomFilter(r, all[len(all)-1].Seq)
			require.Equal(t, matching(all, f), ask(t, h.Client, f), "%s: %+v", what, f)
		}
	}
	check("as it was made", 300)
	e, err := h.Client.Append(t.Context(), event.Event{Type: "task.new", StreamID: "ses_1", Actor: "user"})
	require.NoError(t, err)
	all = append(all, e)
	require.Len(t, ask(t, h.Client, event.Filter{Types: []string{"task.new"}}), 1)
	h.Restart(t)
	check("after a restart", 50)
	require.NotZero(t, h.Broker.Indexed())

	made, err := blocks.Glob(dir, "*.idx")
	require.NoError(t, err)
	require.NotEmpty(t, made)
	whole, err := os.ReadFile(made[0])
	require.NoError(t, err)
	other, err := os.ReadFile(made[1])
	require.NoError(t, err)
	for i := range longtest.Pick(5, 60) {
		damaged := append([]byte(nil), whole...)
		switch i {
		case 0:
			damaged = nil
		case 1:
			damaged = damaged[:len(damaged)/2]
		case 2:
			damaged = other
		default:
			damaged[r.IntN(len(damaged))] ^= 1 << r.IntN(8)
		}
		require.NoError(t, os.WriteFile(made[0], damaged, 0o600))
		if i%10 == 0 {
			h.Restart(t)
		}
		check(fmt.Sprint("damaged index, ", i), 5)
	}
	brokertest.RemoveAll(t, dir)
	check("without an index", 20)
	madeAnew := func() bool {
		again, err := blocks.Glob(dir, "*.idx")
		return err == nil && len(again) == len(made)
	}
	require.Eventually(t, madeAnew, 3*time.Minute, 10*time.Millisecond, "it is made anew while the host runs")
	check("with one that was made anew", 50)
	h.Stop(t)
	require.NoError(t, os.RemoveAll(dir))
	h.Boot(t)
	require.Eventually(t, func() bool { _, err := h.Client.Position(t.Context()); return err == nil }, 10*time.Second, time.Millisecond)
	check("without an index, after a restart", 20)
	require.Eventually(t, madeAnew, 3*time.Minute, 10*time.Millisecond)
	check("with one that was made anew, after a restart", 20)
}

// If a directory is removed while the host writes an index to it, the host retries sooner
// than the minute that it waits for a block that cannot be indexed.
func TestIndexRemovedWhileItIsMade(t *testing.T) {
	longtest.Only(t, "it fills blocks; TestQueriesByTheIndex removes the directory under a host, too")
	t.Parallel()
	brokertest.OnlyOurs(t, "the index is a host's of ours")
	h := brokertest.Start(t)
	fillBlocks(t, h, rand.New(rand.NewPCG(7, 9)), 1)
	dir := filepath.Join(h.Config.Dir, broker.StoreDir, broker.IndexDir)
	brokertest.RemoveAll(t, dir)
	removed := 0
	require.Eventually(t, func() bool {
		if os.Remove(dir) == nil { // it was empty: the index was being made
			removed++
		} else if made, err := blocks.Glob(dir, "*.idx"); err == nil && len(made) > 0 {
			_ = os.RemoveAll(dir) // it was made between two looks: the host makes it again
		}
		return removed == 5
	}, 3*time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		made, err := blocks.Glob(dir, "*.idx")
		return err == nil && len(made) == 1
	}, 3*time.Minute, 10*time.Millisecond)
}

// If a block has changed since it was indexed, the engine reads it, and readers get its
// damage.
func TestIndexOfABlockThatHasChanged(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the index is a host's of ours")
	r := rand.New(rand.NewPCG(7, 8))
	h := brokertest.Start(t)
	all := fillBlocks(t, h, r, 2)
	want := event.Filter{StreamID: some.streams[0]}
	block := files(t, h)[0]

	later := time.Now().Add(time.Second)
	require.NoError(t, os.Chtimes(block.Path, later, later))
	require.Equal(t, matching(all, want), ask(t, h.Client, want))

	// Flipped on the disk itself, where no time changes: the record is one that matches.
	info, err := os.Stat(block.Path)
	require.NoError(t, err)
	raw, err := os.ReadFile(block.Path)
	require.NoError(t, err)
	first := short(all[0])
	at := strings.LastIndex(string(raw), all[0].ID) // in the event; its guard names it too
	require.Positive(t, at)
	raw[at] ^= 1
	require.NoError(t, os.WriteFile(block.Path, raw, 0o600))
	require.NoError(t, os.Chtimes(block.Path, info.ModTime(), info.ModTime()))
	for _, f := range []event.Filter{{StreamID: all[0].StreamID}, {Actor: all[0].Actor}, {Types: []string{all[0].Type}}, {}} {
		require.Eventually(t, func() bool {
			var damage *client.DamageError
			for e, err := range h.Client.Query(t.Context(), f) {
				if err == nil {
					require.True(t, e.Seq != all[0].Seq || short(e) == first) // the engine may still have it in memory
					continue
				}
				require.ErrorAs(t, err, &damage)
			}
			return damage != nil
		}, time.Minute, 10*time.Millisecond, "%+v", f)
	}
}

// A log that the engine compresses is read like any other: its full blocks have no index,
// the engine searches them, and they are undamaged for a reader of the files.
func TestQueriesOfACompressedLog(t *testing.T) {
	longtest.Only(t, "it fills blocks; TestCompressedBlock of internal/blocks and TestConformance of internal/engine read such files")
	t.Parallel()
	brokertest.OnlyOurs(t, "the files are a host's of ours")
	r := rand.New(rand.NewPCG(7, 9))
	h := brokertest.Start(t)
	js := h.Admin(t)
	log, err := js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	cfg := log.CachedInfo().Config
	cfg.Compression = jetstream.S2Compression
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	h.Restart(t) // the engine takes it up
	isCompressed := func(f blocks.File) bool {
		raw, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		return strings.HasPrefix(string(raw), "cmp")
	}
	var all []event.Recorded
	for len(all) == 0 || !isCompressed(files(t, h)[0]) {
		batch := make([]event.Event, 100)
		for i := range batch {
			batch[i] = event.Event{Type: pick(r, some.types), StreamID: pick(r, some.streams), Actor: pick(r, some.actors), CorrelationID: pick(r, some.runs),
				Timestamp: time.UnixMilli(1_760_000_000_000 + r.Int64N(1_000_000)), Payload: fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", 20<<10))}
		}
		rs, err := h.Client.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
		all = append(all, rs...)
	}
	check := func() {
		t.Helper()
		for range 20 {
			f := randomFilter(r, all[len(all)-1].Seq)
			require.Equal(t, matching(all, f), ask(t, h.Client, f), "%+v", f)
		}
	}
	check()
	h.Restart(t)
	check()
	found, err := blocks.CheckFile(files(t, h)[0])
	require.NoError(t, err)
	require.Empty(t, found.Bad)
	require.Greater(t, found.Last, event.Sequence(300))
	require.Empty(t, h.Broker.Checked().Damage)
	require.Zero(t, h.Broker.Indexed())
}
