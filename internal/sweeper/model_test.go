package sweeper_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/sweeper"
	"durablestream/projection"
)

// TestModel drives random commands, crashes of clients and restarts of the broker
// against the log and against a model small enough to be seen right. What a command
// answers must be what the model says, and so must all that resume brings.
func TestModel(t *testing.T) {
	t.Parallel()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		require.NoError(t, flag.Set("rapid.checks", longtest.Pick("4", "12"))) // each of some 30 commands, on a real disk
	}
	h := brokertest.Start(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{h: h, t: t, prefix: fmt.Sprintf("r%d-", run), c: h.Client,
			cps: map[string]*cpModel{}, intents: map[string]*intentModel{}, open: map[string]bool{}}
		for _, s := range []string{"root", "kid", "other"} {
			m.open[s] = true
			parent := ""
			if s == "kid" {
				parent = m.prefix + "root"
			}
			require.NoError(rt, m.append(rt, event.LifecycleSessionCreated, s, "agent", map[string]string{"parentID": parent}))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"request": m.request, "decide": m.decide, "decide again": m.decide, "throw away": m.throwAway,
			"create": m.create, "claim": m.claim, "renew": m.renew, "release": m.release, "end": m.end, "end again": m.end,
			"end a session": m.endSession, "sweep": m.sweep, "restart": m.restart, "": m.check,
		})
		m.restart(rt)
	})
}

type cpModel struct {
	session string
	status  projection.Status
	by      string
	short   bool // its time has passed
	gone    bool // its session ended after it was asked
}

type intentModel struct {
	session string
	state   projection.Status
	lease   client.Lease // of the claim that stands
	stale   client.Lease // of one before
	short   bool
	gone    bool
}

type model struct {
	h      *brokertest.Host
	t      *testing.T
	c      *client.Client
	prefix string
	n      int

	cps     map[string]*cpModel
	intents map[string]*intentModel
	order   []string // of both, as they were made
	open    map[string]bool
}

func (m *model) id(kind string) string { m.n++; return fmt.Sprintf("%s%s%d", m.prefix, kind, m.n) }

func pick[V any](rt *rapid.T, of map[string]V, what string) (string, V) {
	ids := make([]string, 0, len(of))
	for id := range of {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		rt.Skip("none yet")
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(rt, what)
	return id, of[id]
}

// append hands an event over by Append or in a batch.
func (m *model) append(rt *rapid.T, typ, session, actor string, payload any) error {
	b, err := json.Marshal(payload)
	require.NoError(rt, err)
	e := event.Event{Type: typ, StreamID: m.prefix + session, Actor: actor, Payload: b}
	if rapid.Bool().Draw(rt, "in a batch") {
		_, err = m.c.AppendBatch(m.t.Context(), []event.Event{{Type: "task.created", StreamID: m.prefix + session, Actor: actor}, e})
	} else {
		_, err = m.c.Append(m.t.Context(), e)
	}
	return err
}

func session(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"root", "kid", "other"}).Draw(rt, "session")
}

func (m *model) request(rt *rapid.T) {
	id, s := m.id("cp"), session(rt)
	x := &cpModel{session: s, status: projection.Pending, short: rapid.IntRange(0, 3).Draw(rt, "short") == 0}
	if rapid.Bool().Draw(rt, "by its call") {
		q := client.CheckpointRequest{ID: id, StreamID: m.prefix + s, RequestedBy: "agent", DecisionPoint: "?", Options: []event.Option{{ID: "yes"}}}
		if x.short {
			q.ExpiresIn = time.Millisecond
		}
		_, err := m.c.Checkpoints().Request(m.t.Context(), q)
		require.NoError(rt, err)
	} else {
		p := event.Checkpoint{ID: id, DecisionPoint: "?", RequestedBy: "agent", Options: []event.Option{{ID: "yes"}}}
		if x.short {
			p.ExpiresAt = event.Milli(event.Now().UnixMilli() + 1)
		}
		require.NoError(rt, m.append(rt, event.CheckpointRequested, s, "agent", p))
	}
	if x.short {
		passed(m.t, time.Now().Add(2*time.Millisecond))
	}
	m.cps[id] = x
	m.order = append(m.order, id)
}

// decide tries a decision by somebody, one way or another.
func (m *model) decide(rt *rapid.T) {
	id, x := pick(rt, m.cps, "checkpoint")
	by := rapid.SampledFrom([]string{"ann", "bob", "agent"}).Draw(rt, "by")
	option := rapid.SampledFrom([]string{"yes", "yes", "yes", "maybe"}).Draw(rt, "option")
	status := rapid.SampledFrom([]projection.Status{projection.Approved, projection.Rejected, projection.Cancelled}).Draw(rt, "what")
	ctx := m.t.Context()
	direct := rapid.Bool().Draw(rt, "by its call")
	var err error
	switch {
	case status == projection.Approved && direct:
		_, err = m.c.Checkpoints().Approve(ctx, id, client.Approval{By: by, Option: option})
	case status == projection.Approved:
		err = m.append(rt, event.CheckpointApproved, "elsewhere", by, event.Approved{CheckpointID: id, ApprovedBy: by, SelectedOption: option})
	case status == projection.Rejected && direct:
		_, err = m.c.Checkpoints().Reject(ctx, id, client.Rejection{By: by, Reason: ""})
	case status == projection.Rejected:
		err = m.append(rt, event.CheckpointRejected, x.session, by, event.Rejected{CheckpointID: id, RejectedBy: by})
	case direct && by != "agent": // who asked would wait for the sweeper
		_, err = m.c.Checkpoints().Cancel(ctx, id, client.Cancellation{By: by, Reason: ""})
	default:
		err = m.append(rt, event.CheckpointCancelled, x.session, by, event.Cancelled{CheckpointID: id, CancelledBy: by})
	}
	switch {
	case x.status != projection.Pending:
		m.stands(rt, err, x)
	case by == "agent":
		require.ErrorIs(rt, err, client.ErrOwnCheckpoint)
	case x.short:
		x.status, x.by = projection.Expired, client.SweeperActor
		m.stands(rt, err, x)
	case status == projection.Approved && option != "yes":
		require.ErrorIs(rt, err, client.ErrUnknownOption)
	default:
		require.NoError(rt, err)
		x.status, x.by = status, by
	}
}

// stands requires that an error carries the decision that the model knows.
func (m *model) stands(rt *rapid.T, err error, x *cpModel) {
	var d *client.DecidedError
	require.ErrorAs(rt, err, &d)
	require.Equal(rt, x.status, d.Checkpoint.Status)
	require.Equal(rt, x.by, d.Checkpoint.Decision.By)
}

// throwAway lets a client decide that is gone before it hears of it. Whoever decides
// next learns whether it did.
func (m *model) throwAway(rt *rapid.T) {
	id, x := pick(rt, m.cps, "checkpoint")
	if x.status != projection.Pending || x.short {
		rt.Skip("not open")
	}
	after := time.Duration(rapid.IntRange(0, 12).Draw(rt, "ms")) * time.Millisecond
	nc := m.h.Connect(m.t)
	c, err := client.New(m.t.Context(), nc, client.Config{})
	require.NoError(rt, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Checkpoints().Approve(m.t.Context(), id, client.Approval{By: "thrown", Option: "yes"}) // nobody hears of it
	}()
	passed(m.t, time.Now().Add(after))
	nc.Close()
	<-done
	c.Close()
	_, err = m.c.Checkpoints().Reject(m.t.Context(), id, client.Rejection{By: "ann", Reason: ""})
	x.status, x.by = projection.Rejected, "ann"
	if err != nil {
		x.status, x.by = projection.Approved, "thrown"
		m.stands(rt, err, x)
	}
}

func (m *model) create(rt *rapid.T) {
	id, s := m.id("i"), session(rt)
	x := &intentModel{session: s, state: projection.Pending, short: rapid.IntRange(0, 3).Draw(rt, "short") == 0}
	timeout := time.Duration(0)
	if x.short {
		timeout = time.Millisecond
	}
	if rapid.Bool().Draw(rt, "by its call") {
		_, err := m.c.Intents().Create(m.t.Context(), client.IntentSpec{ID: id, StreamID: m.prefix + s, Actor: "agent", Timeout: timeout})
		require.NoError(rt, err)
	} else {
		require.NoError(rt, m.append(rt, event.AgentSpawned, s, "agent", event.Intent{ID: id, TimeoutMS: timeout.Milliseconds()}))
	}
	if x.short {
		passed(m.t, time.Now().Add(2*time.Millisecond))
	}
	m.intents[id] = x
	m.order = append(m.order, id)
}

func (x *intentModel) ended() bool {
	return x.state != projection.Pending && x.state != projection.Running
}

func (m *model) claim(rt *rapid.T) {
	id, x := pick(rt, m.intents, "intent")
	l, err := m.c.Intents().Claim(m.t.Context(), id, rapid.SampledFrom([]string{"h1", "h2"}).Draw(rt, "holder"), time.Hour)
	switch {
	case x.ended():
		require.ErrorIs(rt, err, client.ErrIntentEnded)
	case x.state == projection.Running:
		var held *client.HeldError
		require.ErrorAs(rt, err, &held)
		require.Equal(rt, x.lease.Holder, held.Intent.Holder)
	default:
		require.NoError(rt, err)
		x.state, x.lease = projection.Running, l
	}
}

// lease picks the one that stands or one before it.
func (x *intentModel) pickLease(rt *rapid.T) (l client.Lease, stands bool) {
	l = x.lease
	if x.stale.Token != 0 && rapid.Bool().Draw(rt, "stale") {
		l = x.stale
	}
	if l.Token == 0 {
		rt.Skip("no lease")
	}
	return l, l.Token == x.lease.Token && !x.ended()
}

func (m *model) renew(rt *rapid.T) {
	_, x := pick(rt, m.intents, "intent")
	l, stands := x.pickLease(rt)
	renewed, err := m.c.Intents().Renew(m.t.Context(), l)
	if stands {
		require.NoError(rt, err)
		x.stale, x.lease = x.lease, renewed
		return
	}
	lost(rt, err)
}

// lost requires that an error says that a lease no longer stands.
func lost(rt *rapid.T, err error) {
	var conflict *client.ConflictError
	require.True(rt, errors.As(err, &conflict) || errors.Is(err, client.ErrIntentEnded), "%v", err)
}

func (m *model) release(rt *rapid.T) {
	_, x := pick(rt, m.intents, "intent")
	l, stands := x.pickLease(rt)
	err := m.c.Intents().Release(m.t.Context(), l)
	if stands {
		require.NoError(rt, err)
		x.state, x.stale, x.lease = projection.Pending, x.lease, client.Lease{}
		return
	}
	lost(rt, err)
}

func (m *model) end(rt *rapid.T) {
	id, x := pick(rt, m.intents, "intent")
	typ := rapid.SampledFrom([]string{event.AgentCompleted, event.AgentFailed, event.AgentAborted}).Draw(rt, "how")
	by := rapid.SampledFrom([]string{"h1", "h2", "ann"}).Draw(rt, "by")
	token := rapid.SampledFrom([]event.Sequence{0, x.lease.Token, x.stale.Token}).Draw(rt, "token")
	direct := token != 0 || rapid.Bool().Draw(rt, "by its call")
	var err error
	if direct {
		end := map[string]func(context.Context, string, client.End) (projection.Intent, error){
			event.AgentCompleted: m.c.Intents().Complete, event.AgentFailed: m.c.Intents().Fail, event.AgentAborted: m.c.Intents().Abort,
		}[typ]
		_, err = end(m.t.Context(), id, client.End{By: by, Token: token})
	} else {
		err = m.append(rt, typ, x.session, by, event.IntentEnd{IntentID: id})
	}
	var conflict *client.ConflictError
	switch {
	case x.ended():
		require.ErrorIs(rt, err, client.ErrIntentEnded)
	case token == 0 && x.state == projection.Running && by != x.lease.Holder && typ != event.AgentAborted:
		require.ErrorIs(rt, err, client.ErrHeld)
	case token != 0 && token != x.lease.Token:
		require.ErrorAs(rt, err, &conflict)
	default:
		require.NoError(rt, err)
		x.state = map[string]projection.Status{
			event.AgentCompleted: projection.Completed, event.AgentFailed: projection.Failed, event.AgentAborted: projection.Aborted,
		}[typ]
	}
}

// endSession aborts or deletes a session by its call, or only appends that it ended,
// which the sweeper then carries out.
func (m *model) endSession(rt *rapid.T) {
	s := session(rt)
	if rapid.IntRange(0, 2).Draw(rt, "seldom") > 0 {
		rt.Skip("seldom")
	}
	family := []string{s}
	if s == "root" {
		family = append(family, "kid")
	}
	if rapid.Bool().Draw(rt, "only appended") {
		require.NoError(rt, m.append(rt, event.LifecycleSessionAborted, s, "agent", map[string]string{}))
		m.open[s] = false
		for _, x := range m.cps {
			x.gone = x.gone || slices.Contains(family, x.session)
		}
		for _, x := range m.intents {
			x.gone = x.gone || slices.Contains(family, x.session)
		}
		return
	}
	_, err := m.c.Sessions().Delete(m.t.Context(), m.prefix+s, "ann", "")
	require.NoError(rt, err)
	for _, s := range family {
		m.open[s] = false
	}
	for _, x := range m.cps {
		if x.status == projection.Pending && slices.Contains(family, x.session) {
			x.status, x.by = projection.Cancelled, "ann"
			if x.short {
				x.status, x.by = projection.Expired, client.SweeperActor
			}
		}
	}
	for _, x := range m.intents {
		if !x.ended() && slices.Contains(family, x.session) {
			x.state = projection.Aborted
		}
	}
}

func (m *model) sweep(rt *rapid.T) {
	_, err := sweeper.Sweep(m.t.Context(), sweeper.Config{Client: m.c})
	require.NoError(rt, err)
	for _, x := range m.cps {
		switch {
		case x.status != projection.Pending:
		case x.short: // whoever cancels it finds that its time has passed
			x.status, x.by = projection.Expired, client.SweeperActor
		case x.gone:
			x.status, x.by = projection.Cancelled, client.SweeperActor
		}
	}
	for _, x := range m.intents {
		switch {
		case x.ended():
		case x.gone:
			x.state = projection.Aborted
		case x.short:
			x.state = projection.Failed
		}
	}
}

func (m *model) restart(rt *rapid.T) {
	m.h.Restart(m.t)
	m.c = m.h.NewClient(m.t, client.Config{})
	m.check(rt)
}

// check compares all that resume brings with the model.
func (m *model) check(rt *rapid.T) {
	r, err := m.c.Resume(m.t.Context())
	require.NoError(rt, err)
	require.Empty(rt, r.SetAside)
	got, want := []string{}, []string{}
	line := func(id string, words ...any) string { return id + " " + fmt.Sprint(words...) }
	for _, cp := range r.PendingCheckpoints {
		got = append(got, line(cp.ID, cp.Status, cp.Overdue))
	}
	for _, i := range r.ActiveIntents {
		got = append(got, line(i.ID, i.Status, i.Holder, i.Token, i.Overdue))
	}
	for _, s := range r.OpenSessions {
		got = append(got, line(s.ID, "open"))
	}
	for _, id := range m.order {
		if x := m.cps[id]; x != nil && x.status == projection.Pending {
			want = append(want, line(id, x.status, x.short))
		}
	}
	for _, id := range m.order {
		if x := m.intents[id]; x != nil && !x.ended() {
			want = append(want, line(id, x.state, x.lease.Holder, x.lease.Token, x.short))
		}
	}
	for _, s := range []string{"root", "kid", "other"} {
		if m.open[s] {
			want = append(want, line(m.prefix+s, "open"))
		}
	}
	got = slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, m.prefix) })
	require.Equal(rt, want, got)

	all, err := m.c.Checkpoints().List(m.t.Context(), false)
	require.NoError(rt, err)
	for _, cp := range all {
		if x := m.cps[cp.ID]; x != nil {
			require.Equal(rt, x.status, cp.Status, cp.ID)
			if cp.Decision != nil {
				require.Equal(rt, x.by, cp.Decision.By, cp.ID)
			}
		} else {
			require.False(rt, strings.HasPrefix(cp.ID, m.prefix), cp.ID)
		}
	}
}
