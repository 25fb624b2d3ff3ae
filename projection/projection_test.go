package projection_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/projection"
)

// log builds entries as they would be read.
type log struct {
	entries []projection.Entry
	seq     event.Sequence
}

var base = time.UnixMilli(1_700_000_000_000)

func (l *log) add(e projection.Entry) {
	l.seq++
	e.Seq, e.Stored = l.seq, base.Add(time.Duration(l.seq)*time.Second)
	if e.Event != nil {
		e.Event.Seq = l.seq
	}
	l.entries = append(l.entries, e)
}

func (l *log) guard(g projection.Guard) { l.add(projection.Entry{Guard: &g}) }

func (l *log) event(id, typ, stream, payload string) {
	l.add(projection.Entry{Event: &event.Recorded{Event: event.Event{
		ID: id, Type: typ, StreamID: stream, Actor: "agent", Timestamp: time.UnixMilli(1000 + int64(l.seq)), Payload: []byte(payload),
	}}})
}

// guarded adds an event behind a guard that names it.
func (l *log) guarded(kind, guard, state, id, typ, payload string) {
	l.guard(projection.Guard{Kind: kind, ID: guard, Event: id, State: state})
	l.event(id, typ, "s", payload)
}

func (l *log) request(cp string) {
	l.guarded(event.GuardRequest, cp, "", "req-"+cp, event.CheckpointRequested,
		fmt.Sprintf(`{"id":%q,"decision_point":"?","requested_by":"agent"}`, cp))
}

func (l *log) source(last error) iter.Seq2[projection.Entry, error] {
	return func(yield func(projection.Entry, error) bool) {
		for _, e := range l.entries {
			if !yield(e, nil) {
				return
			}
		}
		if last != nil {
			yield(projection.Entry{}, last)
		}
	}
}

// fold applies the log; every error is the test's.
func (l *log) fold(t *testing.T, folds ...projection.Fold) {
	t.Helper()
	r := projection.Runner{Folds: folds}
	require.NoError(t, r.Run(l.source(nil)))
	require.Empty(t, r.Aside())
}

func TestCheckpointsTakeTheFirstGuardedDecisionOnly(t *testing.T) {
	t.Parallel()
	var l log
	l.request("a")
	l.request("b")
	l.event("by-hand", event.CheckpointApproved, "s", `{"checkpoint_id":"a","approved_by":"eve"}`)
	l.guarded(event.GuardCheckpoint, "a", "", "no", event.CheckpointRejected, `{"checkpoint_id":"a","rejected_by":"ann","reason":"r"}`)
	l.guarded(event.GuardCheckpoint, "a", "", "yes", event.CheckpointApproved, `{"checkpoint_id":"a","approved_by":"bob"}`)
	l.guarded(event.GuardCheckpoint, "unknown", "", "x", event.CheckpointApproved, `{"checkpoint_id":"unknown"}`)
	l.event("r2", event.CheckpointRequested, "s", `{"id":"unguarded","decision_point":"?"}`)
	l.event("c", event.CheckpointCancelRequested, "s", `{"checkpoint_id":"b","reason":"why"}`)

	var c projection.Checkpoints
	l.fold(t, &c)
	a, ok := c.Get("a")
	require.True(t, ok)
	require.Equal(t, projection.Rejected, a.Status)
	require.Equal(t, &projection.Decision{Status: projection.Rejected, By: "ann", At: a.Decision.At, Seq: 7, EventID: "no", Reason: "r"}, a.Decision)
	pending := c.All(true)
	require.Len(t, pending, 1)
	require.Equal(t, "b", pending[0].ID)
	require.True(t, pending[0].CancelRequested)
	require.Equal(t, "agent", pending[0].CancelBy)
	require.Len(t, c.All(false), 2)
	_, ok = c.Get("unguarded")
	require.False(t, ok)
}

// A second message on a guard, by hand, cannot bring a second request or decision.
func TestCheckpointsKeepTheFirstGuard(t *testing.T) {
	t.Parallel()
	var l log
	l.request("a")
	l.guarded(event.GuardRequest, "a", "", "again", event.CheckpointRequested, `{"id":"a","decision_point":"other"}`)
	l.guard(projection.Guard{Kind: event.GuardCheckpoint, ID: "a"}) // says nothing, and stands
	l.guarded(event.GuardCheckpoint, "a", "", "yes", event.CheckpointApproved, `{"checkpoint_id":"a"}`)
	var c projection.Checkpoints
	l.fold(t, &c)
	a, _ := c.Get("a")
	require.Equal(t, "?", a.DecisionPoint)
	require.Equal(t, projection.Pending, a.Status)
}

func TestCheckpointOverdue(t *testing.T) {
	t.Parallel()
	cp := projection.Checkpoint{Checkpoint: event.Checkpoint{ExpiresAt: event.Milli(5000)}, Status: projection.Pending}
	require.False(t, cp.PastDue(time.UnixMilli(4999)))
	require.True(t, cp.PastDue(time.UnixMilli(5000)))
	cp.Status = projection.Approved
	require.False(t, cp.PastDue(time.UnixMilli(9000)))
	require.False(t, projection.Checkpoint{Status: projection.Pending}.PastDue(time.UnixMilli(9000)))
}

func TestIntentLife(t *testing.T) {
	t.Parallel()
	var l log
	var x projection.Intents
	at := func() projection.Intent {
		x = projection.Intents{}
		l.fold(t, &x)
		i, ok := x.Get("i")
		require.True(t, ok)
		return i
	}
	l.guarded(event.GuardIntent, "i", event.StateCreated, "e1", event.AgentSpawned, `{"id":"i","timeout_ms":60000,"status":"running"}`)
	i := at()
	require.Equal(t, projection.Pending, i.Status, "whatever the payload says")
	require.EqualValues(t, 1, i.GuardSeq)
	require.Equal(t, base.Add(2*time.Second+time.Minute), i.Due())

	l.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateClaimed, Holder: "h", Lease: 10 * time.Second})
	i = at()
	require.Equal(t, projection.Running, i.Status)
	require.Equal(t, "h", i.Holder)
	require.EqualValues(t, 3, i.Token)
	end := base.Add(13 * time.Second)
	require.Equal(t, end.UnixMilli(), i.LeaseUntil.Milli())
	require.True(t, i.Held(end.Add(projection.LeaseMargin-time.Millisecond)))
	require.False(t, i.Held(end.Add(projection.LeaseMargin)))

	l.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateReleased, Holder: "h"})
	i = at()
	require.Equal(t, projection.Pending, i.Status)
	require.Zero(t, i.Token)
	require.Empty(t, i.Holder)

	l.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateClaimed, Holder: "anybody"})
	require.False(t, at().Held(base), "a start without a lease holds nobody off")

	l.event("by-hand", event.AgentFailed, "s", `{"intent_id":"i"}`)
	require.Equal(t, projection.Running, at().Status)
	l.guarded(event.GuardIntent, "i", event.StateEnded, "done", event.AgentCompleted, `{"intent_id":"i","result":"ok"}`)
	i = at()
	require.Equal(t, projection.Completed, i.Status)
	require.Equal(t, "ok", i.Result)
	require.Equal(t, "agent", i.EndedBy)
	require.Empty(t, x.All(true))

	l.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateClaimed, Holder: "late"})
	require.Equal(t, projection.Completed, at().Status, "what has ended stays ended")
}

func TestBareSpawnsMakeIntents(t *testing.T) {
	t.Parallel()
	var l log
	l.event("e1", event.AgentSpawned, "s", `{"id":"i","description":"first"}`)
	l.event("e2", event.AgentSpawned, "s", `{"id":"i","description":"second"}`)
	l.event("e3", event.AgentSpawned, "s", `{"description":"nameless"}`)
	l.guarded(event.GuardIntent, "j", event.StateCreated, "e4", event.AgentSpawned, `{"id":"j"}`)
	l.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateClaimed, Holder: "h"})
	var x projection.Intents
	l.fold(t, &x)
	all := x.All(true)
	require.Len(t, all, 2)
	require.Equal(t, "first", all[0].Description)
	require.Equal(t, projection.Running, all[0].Status)
	require.EqualValues(t, 6, all[0].Token)

	// A guard that came first names another event: this one is nothing.
	var k log
	k.guard(projection.Guard{Kind: event.GuardIntent, ID: "i", State: event.StateCreated, Event: "other"})
	k.event("e1", event.AgentSpawned, "s", `{"id":"i"}`)
	var y projection.Intents
	k.fold(t, &y)
	require.Empty(t, y.All(false))
}

func TestImportedIntentCountsFromItsOwnTime(t *testing.T) {
	t.Parallel()
	r := event.Recorded{Event: event.Event{Type: event.AgentSpawned, Timestamp: time.UnixMilli(7), Payload: []byte(`{"id":"i","timeout_ms":5,"created_at":1000}`)}, Imported: true}
	i, err := projection.NewIntent(r, base)
	require.NoError(t, err)
	require.Equal(t, time.UnixMilli(1005), i.Due())
	r.Payload = []byte(`{"id":"i"}`)
	i, err = projection.NewIntent(r, base)
	require.NoError(t, err)
	require.EqualValues(t, 7, i.CreatedAt.Milli())
	require.True(t, i.Due().IsZero())
}

func TestSessionsAndFamily(t *testing.T) {
	t.Parallel()
	var l log
	created := func(id, parent string) {
		l.event("c-"+id, event.LifecycleSessionCreated, id, fmt.Sprintf(`{"parentID":%q,"title":"T %s"}`, parent, id))
	}
	created("root", "")
	created("kid", "root")
	created("grandkid", "kid")
	created("other", "")
	l.event("idle", event.LifecycleSessionIdle, "kid", `"not an object, and it does not matter"`)
	l.event("abort", event.LifecycleSessionAborted, "other", `{}`)
	var s projection.Sessions
	l.fold(t, &s)
	require.Equal(t, []string{"grandkid", "kid", "root"}, s.Family("root"))
	require.Equal(t, []string{"never seen"}, s.Family("never seen"))
	open := s.Open()
	require.Len(t, open, 3)
	kid, _ := s.Get("kid")
	require.Equal(t, projection.Session{ID: "kid", Parent: "root", Children: []string{"grandkid"}, Title: "T kid", Status: "idle", Seq: 5, At: kid.At}, kid)
	other, _ := s.Get("other")
	require.EqualValues(t, 6, other.Gone)

	l.event("again", event.LifecycleSessionCreated, "other", `{}`)
	s = projection.Sessions{}
	l.fold(t, &s)
	other, _ = s.Get("other")
	require.Zero(t, other.Gone, "created anew")
}

func TestFamilyCutsACycle(t *testing.T) {
	t.Parallel()
	var l log
	for _, pair := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"self", "self"}} {
		l.event("c-"+pair[0], event.LifecycleSessionCreated, pair[0], fmt.Sprintf(`{"parentID":%q}`, pair[1]))
	}
	var s projection.Sessions
	l.fold(t, &s)
	for _, id := range []string{"a", "b", "c"} {
		family := s.Family(id)
		require.ElementsMatch(t, []string{"a", "b", "c"}, family)
		require.Equal(t, id, family[2], "the one asked for comes last")
	}
	require.Equal(t, []string{"self"}, s.Family("self"))
}

func caused(l *log, id, by string) {
	l.event(id, "task.created", "s", "{}")
	l.entries[len(l.entries)-1].Event.CausationID = by
}

func TestLineage(t *testing.T) {
	t.Parallel()
	var l log
	caused(&l, "root", "")
	caused(&l, "kid", "root")
	caused(&l, "orphan", "unknown")
	caused(&l, "grandkid", "kid")
	caused(&l, "late", "early") // the cause comes after what it caused
	caused(&l, "early", "")
	caused(&l, "kid", "orphan") // an id that was used again
	var g projection.Lineage
	l.fold(t, &g)
	require.Equal(t, []string{"root", "unknown", "early"}, g.Roots())
	unknown, ok := g.Get("unknown")
	require.True(t, ok)
	require.Nil(t, unknown.Event)
	require.Equal(t, []string{"orphan"}, unknown.Children)
	require.Equal(t, "root", g.Root("grandkid"))
	require.Equal(t, "unknown", g.Root("orphan"))
	require.Equal(t, "never seen", g.Root("never seen"))
	_, ok = g.Get("never seen")
	require.False(t, ok)
	var walked []string
	g.Walk("root", func(id string, depth int) { walked = append(walked, fmt.Sprint(depth, id)) })
	require.Equal(t, []string{"0root", "1kid", "2grandkid"}, walked)
}

func TestLineageCutsCycles(t *testing.T) {
	t.Parallel()
	var l log
	caused(&l, "a", "c")
	caused(&l, "b", "a")
	caused(&l, "c", "b")
	caused(&l, "tail", "c")
	caused(&l, "self", "self")
	var g projection.Lineage
	l.fold(t, &g)
	require.Equal(t, []string{"a", "self"}, g.Roots(), "of a cycle, its first")
	n := 0
	g.Walk("a", func(string, int) { n++ })
	require.Equal(t, 4, n)
	for _, id := range []string{"a", "b", "c", "tail"} {
		require.Contains(t, []string{"a", "b", "c"}, g.Root(id))
	}
	require.Equal(t, "self", g.Root("self"))
}

// What one fold cannot read is kept aside, and harms neither the rest nor the others.
func TestWhatCannotBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	var l log
	l.event("bad1", event.CheckpointRequested, "s", `[1]`)
	l.event("bad2", event.CheckpointApproved, "s", `"x"`)
	l.event("bad3", event.CheckpointCancelRequested, "s", `7`)
	l.event("bad4", event.AgentSpawned, "s", `{"id":7}`)
	l.event("bad5", event.AgentFailed, "s", `[]`)
	l.event("bad6", event.LifecycleSessionCreated, "ses", `"x"`)
	l.event("bad7", event.CheckpointRequested, "s", `{"decision_point":"no id"}`)
	l.request("cp")
	var c projection.Checkpoints
	var x projection.Intents
	var s projection.Sessions
	var g projection.Lineage
	r := projection.Runner{Folds: []projection.Fold{&c, &x, &s, &g}}
	require.NoError(t, r.Run(l.source(nil)))
	aside := r.Aside()
	require.Len(t, aside, 7)
	for i, a := range aside {
		require.EqualValues(t, i+1, a.Seq)
		require.NotEmpty(t, a.Reason)
	}
	require.Len(t, c.All(true), 1)
	require.Empty(t, s.Open())
	require.Len(t, g.Roots(), 8)
	applied, read := r.Applied()
	require.EqualValues(t, 9, applied)
	require.Equal(t, 9, read)
}

func TestRunEndsWithTheSourcesError(t *testing.T) {
	t.Parallel()
	var l log
	l.request("cp")
	r := projection.Runner{Folds: []projection.Fold{&projection.Checkpoints{}}}
	lost := errors.New("lost")
	require.ErrorIs(t, r.Run(l.source(lost)), lost)
	applied, _ := r.Applied()
	require.EqualValues(t, 2, applied, "what came before counts")
}

func TestWaitForASequence(t *testing.T) {
	t.Parallel()
	var c projection.Checkpoints
	r := projection.Runner{Folds: []projection.Fold{&c}}
	in := make(chan projection.Entry)
	ran := make(chan error)
	go func() {
		ran <- r.Run(func(yield func(projection.Entry, error) bool) {
			for e := range in {
				if !yield(e, nil) {
					return
				}
			}
		})
	}()
	waited := make(chan error)
	for range 3 {
		go func() { waited <- r.Wait(t.Context(), 10) }()
	}
	var l log
	l.request("cp")
	for _, e := range l.entries {
		changed := r.Changed()
		in <- e
		<-changed
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.Wait(short, 10), context.Canceled)
	require.NoError(t, r.Wait(t.Context(), 2))
	r.View(func() { require.Len(t, c.All(true), 1) })
	in <- projection.Entry{Seq: 12} // nothing of ours, and all up to there is read
	for range 3 {
		require.NoError(t, <-waited)
	}
	_, read := r.Applied()
	require.Equal(t, 2, read, "an entry that only says where it is was not read")
	in <- projection.Entry{Seq: 11}
	close(in)
	require.NoError(t, <-ran)
	applied, _ := r.Applied()
	require.EqualValues(t, 12, applied, "never backwards")
}

func TestMerge(t *testing.T) {
	t.Parallel()
	n := projection.Merge(&projection.Checkpoints{}, &projection.Intents{}, &projection.Sessions{})
	require.Contains(t, n.Types, "checkpoint.*")
	require.Contains(t, n.Types, event.AgentSpawned)
	require.Contains(t, n.Types, "lifecycle.session.*")
	require.Equal(t, []string{event.GuardRequest, event.GuardCheckpoint, event.GuardIntent}, n.Guards)
}

// The folds are pure: the same entries give the same state, also when a reader
// begins anew in the middle of an earlier run's life.
func TestFoldsArePure(t *testing.T) {
	t.Parallel()
	var l log
	l.request("a")
	l.guarded(event.GuardCheckpoint, "a", "", "yes", event.CheckpointApproved, `{"checkpoint_id":"a","approved_by":"b"}`)
	l.guarded(event.GuardIntent, "i", event.StateCreated, "e1", event.AgentSpawned, `{"id":"i"}`)
	var c1, c2 projection.Checkpoints
	var x1, x2 projection.Intents
	l.fold(t, &c1, &x1)
	l.fold(t, &x2)
	l.fold(t, &c2)
	require.Equal(t, c1.All(false), c2.All(false))
	require.Equal(t, x1.All(false), x2.All(false))
	// What is handed out is a copy.
	all := c1.All(false)
	all[0].Status = projection.Cancelled
	a, _ := c1.Get("a")
	require.Equal(t, projection.Approved, a.Status)
}
