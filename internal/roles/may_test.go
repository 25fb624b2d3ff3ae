package roles_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/longtest"
	"durablestream/internal/roles"
	"durablestream/internal/sweeper"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// Each role can do with our client all that it must, and is refused the rest at once
// and in words, before anything is sent.
func TestWhatARoleMayDo(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *site{
		"embedded": func(t *testing.T) *site { return embedded(t) },
		"TLS":      overTLS,
		"plain":    plain,
		"cluster":  clustered,
	} {
		if !slices.Contains(longtest.Pick([]string{"embedded", "cluster"}, []string{"embedded", "TLS", "plain", "cluster"}), name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			agent, operator, admin := s.client(t, "agent"), s.client(t, "operator"), s.client(t, "admin")
			require.Equal(t, client.RoleAgent, agent.Admin().Role())
			require.Equal(t, client.RoleOperator, operator.Admin().Role())
			require.Equal(t, client.RoleAdmin, admin.Admin().Role())
			for _, c := range []*client.Client{agent, operator, admin} {
				agentWork(t, c, "of the "+string(c.Admin().Role()))
			}
			refusals(t, agent)
			operatorWork(t, operator, agent)
			before := s.state(t)
			refusals(t, agent)
			require.Equal(t, before, s.state(t), "nothing was sent")
		})
	}
}

// agentWork is what everybody may do; id makes names its own.
func agentWork(t *testing.T, c *client.Client, id string) {
	t.Helper()
	ctx := t.Context()
	e := event.Event{Type: "task.created", StreamID: id, Actor: "agent/a"}
	r, err := c.Append(ctx, e)
	require.NoError(t, err)
	again, err := c.Append(ctx, r.Event)
	require.NoError(t, err)
	require.Equal(t, r, again)
	rs, err := c.AppendBatch(ctx, []event.Event{e, e, e})
	require.NoError(t, err)
	require.Len(t, rs, 3)
	pos, _, err := c.AppendGuarded(ctx, client.Guard{Name: id}, e)
	require.NoError(t, err)
	var conflict *client.ConflictError
	_, _, err = c.AppendGuarded(ctx, client.Guard{Name: id}, e)
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, pos, conflict.Seq)
	n := 0
	for _, err := range c.Query(ctx, event.Filter{StreamID: id}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 5, n)
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	for got, err := range c.Subscribe(sub, event.Filter{StreamID: id, After: rs[2].Seq - 1}) {
		require.NoError(t, err)
		require.Equal(t, rs[2], got)
		break
	}
	_, err = c.Barrier(ctx)
	require.NoError(t, err)
	cp, err := c.Checkpoints().Request(ctx, client.CheckpointRequest{ID: "cp " + id, StreamID: id, RequestedBy: "agent/a", DecisionPoint: "Go?"})
	require.NoError(t, err)
	wait, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	_, err = c.Checkpoints().Wait(wait, cp.ID)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	i, err := c.Intents().Create(ctx, client.IntentSpec{ID: "i " + id, StreamID: id, Actor: "agent/a", Description: "work"})
	require.NoError(t, err)
	l, err := c.Intents().Claim(ctx, i.ID, "w", time.Minute)
	require.NoError(t, err)
	l, err = c.Intents().Renew(ctx, l)
	require.NoError(t, err)
	_, err = c.Intents().Complete(ctx, i.ID, client.End{By: "w", Token: l.Token})
	require.NoError(t, err)
	_, err = c.Resume(ctx)
	require.NoError(t, err)
	_, err = c.Admin().State(ctx)
	require.NoError(t, err)
	// What only the sweeper may carry out is asked for.
	end, err := c.Sessions().Abort(ctx, "session "+id, "agent/a", "done")
	require.NoError(t, err)
	require.Len(t, end.Sessions, 1)
}

// refusals are what an agent's client says no to by itself.
func refusals(t *testing.T, agent *client.Client) {
	t.Helper()
	ctx := context.Background()
	for what, do := range map[string]func() error{
		"approve": func() error {
			_, err := agent.Checkpoints().Approve(ctx, "cp of the agent", client.Approval{By: "alice"})
			return err
		},
		"reject": func() error {
			_, err := agent.Checkpoints().Reject(ctx, "cp of the agent", client.Rejection{By: "alice", Reason: "no"})
			return err
		},
		"void a guard": func() error { _, err := agent.Admin().VoidGuard(ctx, "cp of the agent", "x", ""); return err },
		"decide plain": func() error { return appendDecision(agent, event.CheckpointApproved) },
		"cancel plain": func() error { return appendDecision(agent, event.CheckpointCancelled) },
		"decide nobody": func() error {
			_, err := agent.Append(ctx, event.Event{Type: event.CheckpointExpired, StreamID: "S", Actor: "x", Payload: []byte(`{"checkpoint_id":"none"}`)})
			return err
		},
		"decide in a batch": func() error {
			_, err := agent.AppendBatch(ctx, []event.Event{{Type: "task.created", StreamID: "S", Actor: "x"}, decision(event.CheckpointRejected)})
			return err
		},
		"import": func() error {
			_, err := agent.Admin().Import(ctx, "files", []event.Event{{ID: "x", CorrelationID: "c", Type: "task.created", StreamID: "S", Actor: "x", Timestamp: time.UnixMilli(1), Payload: []byte("{}")}}, nil)
			return err
		},
	} {
		begun := time.Now()
		err := do()
		var no *client.NotAllowedError
		require.ErrorIs(t, err, client.ErrNotAllowed, what)
		require.ErrorAs(t, err, &no, what)
		require.Equal(t, client.RoleAgent, no.Role)
		require.Equal(t, client.RoleOperator, no.Needs)
		require.ErrorContains(t, err, "this key has the role agent", what)
		require.Less(t, time.Since(begun), 2*time.Second, what)
	}
}

func decision(typ string) event.Event {
	return event.Event{Type: typ, StreamID: "S", Actor: "mallory", Payload: []byte(`{"checkpoint_id":"cp of the agent"}`)}
}

func appendDecision(c *client.Client, typ string) error {
	_, err := c.Append(context.Background(), decision(typ))
	return err
}

// operatorWork is what operators may do on top; the agent sees it.
func operatorWork(t *testing.T, operator, agent *client.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := operator.Checkpoints().Approve(ctx, "cp of the agent", client.Approval{By: "alice"})
	require.NoError(t, err)
	cp, err := agent.Checkpoints().Wait(ctx, "cp of the agent")
	require.NoError(t, err)
	require.Equal(t, "alice", cp.Decision.By)
	_, err = operator.Checkpoints().Reject(ctx, "cp of the operator", client.Rejection{By: "alice", Reason: "no"})
	require.NoError(t, err)
	_, err = operator.Checkpoints().Cancel(ctx, "cp of the admin", client.Cancellation{By: "alice", Reason: "no more"})
	require.NoError(t, err)
	report, err := operator.Admin().Import(ctx, "files", []event.Event{{ID: "imported", CorrelationID: "c", Type: "task.created", StreamID: "S", Actor: "x", Timestamp: time.UnixMilli(1), Payload: []byte("{}")}}, nil)
	require.NoError(t, err)
	require.Equal(t, 1, report.Stored)
}

// overTLS is a host whose clients must use TLS.
func overTLS(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, roles.MakeTLS(dir, []string{"localhost", "127.0.0.1"}))
	file := func(name string) string { return filepath.Join(dir, name) }
	s := embedded(t, func(c *broker.Config) {
		c.TLS = broker.TLSConfig{Cert: file(roles.CertFile), Key: file(roles.CertKey), CA: file(roles.CAFile)}
	})
	without := s.target
	without.TLS = client.TLSFiles{}
	without.NKey = filepath.Join(s.seeds, "agent")
	_, err := client.Connect(t.Context(), without)
	require.ErrorContains(t, err, "--tls-ca", "a certificate of nobody that is trusted")
	other := t.TempDir()
	require.NoError(t, roles.MakeTLS(other, []string{"elsewhere"}))
	without.TLS.CA = filepath.Join(other, roles.CAFile)
	_, err = client.Connect(t.Context(), without)
	require.Error(t, err, "another authority")
	return s
}

// What takes a role is refused before it begins, where it has no single answer of the
// server's to wait for.
func TestTasksNeedTheirRole(t *testing.T) {
	t.Parallel()
	s := plain(t)
	agent, operator, admin := s.client(t, "agent"), s.client(t, "operator"), s.client(t, "admin")
	require.ErrorContains(t, sweeper.Run(t.Context(), sweeper.Config{Client: agent}), "this key has the role agent")
	for _, c := range []*client.Client{agent, operator} {
		_, err := mirror.Restore(t.Context(), mirror.RestoreConfig{Client: c, From: []string{t.TempDir()}})
		require.ErrorIs(t, err, client.ErrNotAllowed)
		require.ErrorContains(t, err, "to restore a log takes the role admin")
	}
	require.NoError(t, operator.Admin().Needs(client.RoleOperator, "x"))
	require.NoError(t, admin.Admin().Needs(client.RoleAdmin, "x"))

	// A server without the Log: who may not make it is told so at once.
	require.NoError(t, s.js.DeleteStream(t.Context(), wire.LogName))
	_, err := durablestream.Open(t.Context(), durablestream.Config{Servers: s.target.Servers, NKey: filepath.Join(s.seeds, "agent"), Dir: t.TempDir()})
	require.ErrorIs(t, err, client.ErrNoLog)
	require.ErrorContains(t, err, "an admin's key makes it")
	d, err := durablestream.Open(t.Context(), durablestream.Config{Servers: s.target.Servers, NKey: filepath.Join(s.seeds, "admin"), Dir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	d, err = durablestream.Open(t.Context(), durablestream.Config{Servers: s.target.Servers, NKey: filepath.Join(s.seeds, "agent"), Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

// What the documents say of keys that nothing holds back: it stays true, or the
// documents change.
func TestKnownLimits(t *testing.T) {
	t.Parallel()
	t.Run("a consumer whose name is known can be changed and read", func(t *testing.T) {
		t.Parallel()
		s := embedded(t)
		a := s.attacker(t, "agent")
		before := s.state(t)
		a.send(s.api+".CONSUMER.CREATE.EVENTS.known", a.inbox,
			`{"stream_name":"EVENTS","config":{"durable_name":"known","ack_policy":"explicit","description":"changed"}}`)
		require.Eventually(t, func() bool { return before != s.state(t) }, 5*time.Second, time.Millisecond)
		before = s.state(t)
		a.send(s.api+".CONSUMER.MSG.NEXT.EVENTS.known", a.inbox, `{"batch":1}`)
		require.Eventually(t, func() bool { return before != s.state(t) }, 5*time.Second, time.Millisecond)
	})
	t.Run("an agent's inbox that another agent knows", func(t *testing.T) {
		t.Parallel()
		s := embedded(t)
		a := s.attacker(t, "agent")
		l := listen(t, s, "agent2")
		a.send(s.api+".STREAM.INFO.EVENTS", l.subject, "")
		_, err := l.sub.NextMsg(5 * time.Second)
		require.NoError(t, err)
	})
	// The server takes a message of nothing, without headers, for the end of an answer
	// that crosses accounts. A reader notices that its messages stay away.
	t.Run("a message of nothing delays readers", func(t *testing.T) {
		t.Parallel()
		s := embedded(t)
		s.attacker(t, "agent2").send("events.test.nothing.s", "", "")
		c := s.client(t, "agent")
		_, err := c.Append(t.Context(), event.Event{Type: "task.created", StreamID: "S", Actor: "a"})
		require.NoError(t, err)
		n := 0
		for r, err := range c.Query(t.Context(), event.Filter{}) {
			require.NoError(t, err)
			require.Equal(t, "task.created", r.Type)
			n++
		}
		require.Equal(t, 1, n)
	})
	// Why nobody may subscribe in LOG as they like: a consumer pushes to any subject
	// that somebody there subscribes to, word for word.
	t.Run("a push to a subject with a subscriber", func(t *testing.T) {
		t.Parallel()
		s := embedded(t)
		_, err := s.owner.Subscribe("$JS.API.STREAM.DELETE.EVENTS", func(*nats.Msg) {})
		require.NoError(t, err)
		require.NoError(t, s.owner.Flush())
		a := s.attacker(t, "agent")
		push(a, "$JS.API.STREAM.DELETE.EVENTS")
		require.Eventually(t, a.answered, 10*time.Second, time.Millisecond)
		a.settle(t)
		// Its heartbeats deleted the Log of nats-server 2.15.2.
		_, err = s.js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)

		admin := embedded(t).attacker(t, "admin") // but no key may be that subscriber
		_, err = admin.SubscribeSync("$JS.API.STREAM.DELETE.EVENTS")
		require.NoError(t, err)
		require.NoError(t, admin.Flush())
		require.Eventually(t, func() bool { return admin.refused.Load() == 1 }, 5*time.Second, time.Millisecond)
	})
}
