package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// rich is a host whose Log holds everything a restore has to tell apart.
func rich(t *testing.T) *brokertest.Host {
	t.Helper()
	h := brokertest.Start(t)
	appendAll(t, h.Client, mixed(9)...)
	e := func(typ, payload string) event.Event {
		return event.Event{ID: event.NewID(), Type: typ, StreamID: "s", Actor: "a", CorrelationID: "c", Timestamp: time.UnixMilli(1), Payload: []byte(payload)}
	}
	_, err := h.Client.Admin().Import(t.Context(), "x", []event.Event{
		e(event.CheckpointRequested, `{"id":"cp_1"}`), e("a.b", "1"), e(event.CheckpointApproved, `{"checkpoint_id":"cp_1"}`),
		e(event.CheckpointRejected, `{"checkpoint_id":"cp_1"}`), e(event.AgentSpawned, `{"id":"in_1"}`), e(event.AgentCompleted, `{"intent_id":"in_1"}`),
	}, nil)
	require.NoError(t, err)
	guard(t, h, wire.GuardSubject(event.GuardUser, "alone"))
	raw(t, h, "events.a.b.junk", []byte("junk"))
	// A guard of the caller's own, with two events behind it.
	g := wire.GuardSubject(event.GuardUser, "both of us")
	one, two := event.Recorded{Event: e("a.b", "1"), Guard: g}, event.Recorded{Event: e("a.b", "2"), Guard: g}
	batchOf(t, h, func(p *publisher) {
		body := wire.GuardBody{Event: one.ID, Type: one.Type}.Encode()
		require.NoError(t, p.add(t.Context(), wire.EncodeGuard(g, body)))
		require.NoError(t, p.add(t.Context(), wire.Encode(one)))
		require.NoError(t, p.add(t.Context(), wire.Encode(two)))
	})
	appendAll(t, h.Client, mixed(3)...)
	guard(t, h, wire.GuardSubject(event.GuardUser, "last"))
	return h
}

// batchOf writes to h's Log as a restore would.
func batchOf(t *testing.T, h *brokertest.Host, fill func(*publisher)) {
	t.Helper()
	js, err := jetstream.New(h.Conn)
	require.NoError(t, err)
	p := newPublisher(h.Client, h.Conn, js, position(t, h.Client))
	fill(p)
	require.NoError(t, p.flush(t.Context()))
}

func messages(t *testing.T, c *client.Client) []client.Message {
	t.Helper()
	var out []client.Message
	for m, err := range c.Feed(t.Context(), client.FeedConfig{Until: position(t, c)}) {
		require.NoError(t, err)
		for name := range m.Header {
			if strings.HasPrefix(name, "Nats-") && name != wire.HeaderID {
				delete(m.Header, name) // how it came in, not what it is
			}
		}
		out = append(out, m)
	}
	return out
}

func restoreOf(h *brokertest.Host, from ...string) RestoreConfig {
	return RestoreConfig{Client: h.Client, Conn: h.Conn, From: from}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	old := rich(t)
	cfg := configOf(t, old)
	cfg.MaxBytes, cfg.batchBytes = 1500, 1
	catchUp(t, cfg)
	require.Greater(t, len(get(t, cfg.Dir)), 3)

	h := brokertest.Start(t)
	report, err := Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.NoError(t, err)
	was, now := messages(t, old.Client), messages(t, h.Client)
	require.Len(t, now, len(was)-1, "all but the guard after the last line")
	guards, voids := 0, 0
	for i, m := range now {
		require.EqualValues(t, i+1, m.Seq)
		kind, _, isGuard := wire.ParseGuardSubject(m.Subject)
		if kind == event.GuardVoid {
			require.Equal(t, wire.GuardSubject(event.GuardVoid, m.Seq.String()), m.Subject)
			require.JSONEq(t, "{}", string(m.Data))
			voids++
			continue
		}
		if isGuard {
			guards++
		}
		require.Equal(t, was[i].Subject, m.Subject)
		require.Equal(t, string(was[i].Data), string(m.Data))
		require.Equal(t, fmt.Sprint(was[i].Header), fmt.Sprint(m.Header))
	}
	require.Equal(t, 3, voids, "the import's guard, the lone guard, the junk")
	require.Equal(t, 5, guards, "request, decision, spawn, end, and the caller's own")
	require.EqualValues(t, 3, report.Voids)
	require.EqualValues(t, 5, report.Guards)
	require.EqualValues(t, 20, report.Lines)
	require.EqualValues(t, len(now), report.Last)
	st, err := h.Client.Admin().State(t.Context())
	require.NoError(t, err)
	require.False(t, wire.IsRestoring(st.Config))

	cfg.Client = h.Client
	require.NoError(t, Check(t.Context(), cfg))
	requireEqual(t, cfg)
	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg) // the mirror goes on in the same files
	requireEqual(t, cfg)

	_, err = Restore(t.Context(), restoreOf(h, cfg.Dir))
	require.ErrorIs(t, err, ErrNotEmpty)
	require.ErrorContains(t, err, fmt.Sprint(len(now)+2))
	require.EqualValues(t, len(now)+2, position(t, h.Client))
}

func TestRestoreChecksAllBeforeItWrites(t *testing.T) {
	t.Parallel()
	_, old := small(t, 8, 900)
	catchUp(t, old)
	h := brokertest.Start(t)
	at, text := places(t, old.Dir)
	unchanged := func() {
		st, err := h.Client.Admin().State(t.Context())
		require.NoError(t, err)
		require.Zero(t, st.Messages)
		require.False(t, wire.IsRestoring(st.Config))
	}
	last := append([]string{}, text...)
	last[len(last)-1] = strings.Replace(last[len(last)-1], "agent", "agemt", 1)
	put(t, old.Dir, join(at, last))
	var damage *DamageError
	_, err := Restore(t.Context(), restoreOf(h, old.Dir))
	require.ErrorAs(t, err, &damage)
	require.Equal(t, at[len(at)-1].line, damage.Line)
	unchanged()

	first := append([]string{}, text...)
	first[0] = strings.Replace(first[0], "agent", "agemt", 1)
	put(t, old.Dir, join(at, first))
	_, err = Restore(t.Context(), restoreOf(h, old.Dir))
	require.ErrorIs(t, err, ErrIncomplete)
	unchanged()

	_, err = Restore(t.Context(), restoreOf(h, t.TempDir()))
	require.ErrorIs(t, err, ErrNoLines)
	_, err = Restore(t.Context(), restoreOf(h, filepath.Join(old.Dir, "nowhere")))
	require.ErrorIs(t, err, os.ErrNotExist)
	unchanged()

	// A torn tail is what a crash leaves, and is left out. Files in any order, and
	// under any names, are read in theirs.
	torn := append([]string{}, text...)
	torn[len(torn)-1] = torn[len(torn)-1][:20]
	files := join(at, torn)
	var paths []string
	i := 0
	for _, text := range files { // in the order of a map
		i++
		paths = append(paths, filepath.Join(t.TempDir(), fmt.Sprintf("copy%d.jsonl", i)))
		require.NoError(t, os.WriteFile(paths[len(paths)-1], []byte(text), 0o600))
	}
	report, err := Restore(t.Context(), restoreOf(h, paths...))
	require.NoError(t, err)
	require.True(t, report.Torn)
	require.EqualValues(t, 7, report.Lines)
	put(t, old.Dir, files)
	old.Client = h.Client
	catchUp(t, old)
	requireEqual(t, old)
}

// late is a mirror whose first line has a high seq, and no predecessor.
func late(t *testing.T, voids int) Config {
	t.Helper()
	h := brokertest.Start(t)
	batchOf(t, h, func(p *publisher) {
		for range voids {
			require.NoError(t, p.add(t.Context(), wire.EncodeGuard(wire.GuardSubject(event.GuardUser, "u"), nil)))
		}
	})
	_, err := h.Client.Admin().Import(t.Context(), "x", []event.Event{{
		ID: "i", Type: event.AgentSpawned, StreamID: "s", Actor: "a", CorrelationID: "c", Payload: []byte(`{"id":"in"}`)}}, nil)
	require.NoError(t, err)
	appendAll(t, h.Client, mixed(3)...)
	cfg := configOf(t, h)
	catchUp(t, cfg)
	return cfg
}

func TestRestoreWithAGapInFront(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		gap              int
		recreate, remade bool
	}{
		{"short", 400, true, false}, {"long", 1500, true, true}, {"long, and no way to make the Log again", 1500, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := late(t, c.gap)
			h := brokertest.Start(t)
			rc := restoreOf(h, cfg.Dir)
			if c.recreate {
				rc.Recreate = func(ctx context.Context, first event.Sequence) error {
					require.EqualValues(t, c.gap+2, first, "the guard of the first event comes first")
					return h.RecreateLog(ctx, first)
				}
			}
			report, err := Restore(t.Context(), rc)
			require.NoError(t, err)
			require.Equal(t, c.remade, report.Recreated)
			require.EqualValues(t, 1, report.Guards)
			st, err := h.Client.Admin().State(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, c.gap+6, st.Last)
			if c.remade {
				require.EqualValues(t, c.gap+2, st.First)
			}
			cfg.Client = h.NewClient(t, client.Config{}) // the Log may have been made anew since the other began
			require.NoError(t, Check(t.Context(), cfg))
			requireEqual(t, cfg)
			whole := content(t, cfg.Dir)
			cfg.Dir = t.TempDir() // a mirror from nothing is the same
			catchUp(t, cfg)
			require.Equal(t, whole, content(t, cfg.Dir))
			requireEqual(t, cfg)
			h.Restart(t)
			require.NoError(t, Check(t.Context(), cfg))
		})
	}
}

func TestRestorePartOfTheFiles(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, 700)
	catchUp(t, cfg)
	files, err := list(cfg.Dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(files[0].path))
	h := brokertest.Start(t)
	rc := restoreOf(h, cfg.Dir)
	_, err = Restore(t.Context(), rc)
	require.ErrorIs(t, err, ErrIncomplete)
	rc.Partial = true
	report, err := Restore(t.Context(), rc)
	require.NoError(t, err)
	require.True(t, report.Anchored)
	require.Equal(t, files[1].first, report.First)
	cfg.Client = h.Client
	require.NoError(t, Check(t.Context(), cfg))
	for l, err := range Lines(cfg.Dir) {
		require.NoError(t, err)
		st, err := h.Client.Admin().State(t.Context())
		require.NoError(t, err)
		require.NoError(t, compare(t.Context(), h.Client, st, l))
	}
}
