package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// site is a server with a Log and a key of each role, and one agent more.
type site struct {
	target client.Target
	keys   map[string]roles.Key // by their names: agent, operator, admin, agent2
	seeds  string
	js     jetstream.JetStream // that of somebody whom nothing is forbidden
	owner  *nats.Conn          // his connection
	api    string              // what agents call JetStream's API
}

func makeKeys(t *testing.T) (list []roles.Key, keys map[string]roles.Key, seeds string) {
	t.Helper()
	seeds, keys = t.TempDir(), map[string]roles.Key{}
	for _, name := range []string{"agent", "operator", "admin", "agent2"} {
		k, err := roles.Make(name, roles.Role(strings.TrimSuffix(name, "2")), filepath.Join(seeds, name))
		require.NoError(t, err)
		list = append(list, k)
		keys[name] = k
	}
	return list, keys, seeds
}

// embedded is a host of ours.
func embedded(t *testing.T, configure ...func(*broker.Config)) *site {
	t.Helper()
	list, keys, seeds := makeKeys(t)
	cfg := broker.Config{Dir: t.TempDir(), Keys: brokerKeys(list), DiskFloor: -1}
	for _, f := range configure {
		f(&cfg)
	}
	b, err := broker.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Stop(context.Background())) })
	require.NoError(t, b.Advertise())
	owner, err := b.Connect()
	require.NoError(t, err)
	_, err = owner.Subscribe(wire.StatusSubject, func(m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	require.NoError(t, err)
	s := &site{target: client.Target{AddressFile: broker.AddressPath(cfg.Dir)}, keys: keys, seeds: seeds, owner: owner, api: roles.APIPrefix}
	if cfg.TLS.CA != "" {
		s.target.TLS.CA = cfg.TLS.CA
	}
	return s.open(t)
}

// plain is a nats-server whose configuration is what dstream keys server-config
// prints.
func plain(t *testing.T) *site {
	t.Helper()
	list, keys, seeds := makeKeys(t)
	s := &site{keys: keys, seeds: seeds, api: roles.APIPrefix}
	s.run(t, roles.ServerConfig(list))
	s.owner = s.connect(t, "admin")
	return s.open(t)
}

// single is one account for all, with the same permissions of each key.
func single(t *testing.T) *site {
	t.Helper()
	list, keys, seeds := makeKeys(t)
	s := &site{keys: keys, seeds: seeds, api: "$JS.API"}
	conf := "jetstream {sync_interval: always}\naccounts { ONE { jetstream: enabled, users: [\n"
	for _, k := range list {
		p := roles.Of(k)
		for i := range p.Publish {
			p.Publish[i] = strings.Replace(p.Publish[i], roles.APIPrefix, s.api, 1)
		}
		permissions, err := event.Marshal(map[string]any{"publish": map[string]any{"allow": p.Publish, "deny": p.Deny}, "subscribe": p.Subscribe})
		require.NoError(t, err)
		conf += fmt.Sprintf("{nkey: %s, permissions: %s}\n", k.Public, permissions)
	}
	s.run(t, conf+"]}}\n")
	s.owner = s.connect(t, "admin")
	return s.open(t)
}

// run runs a nats-server from the text of a configuration file.
func (s *site) run(t *testing.T, conf string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog, opts.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir()
	require.True(t, opts.SyncAlways)
	srv, err := server.NewServer(opts)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(10*time.Second))
	s.target.Servers = []string{srv.ClientURL()}
}

// open makes the Log and fills it with what the attempts want to change: events,
// one of them empty, a guard, an open question, a decision, and a consumer whose name is known.
func (s *site) open(t *testing.T) *site {
	t.Helper()
	t.Cleanup(s.owner.Close)
	var err error
	s.js, err = jetstream.New(s.owner)
	require.NoError(t, err)
	if _, err := s.js.Stream(t.Context(), wire.LogName); err != nil {
		_, err = s.js.CreateStream(t.Context(), wire.LogConfig(1, 0))
		require.NoError(t, err)
	}
	for i, body := range []string{"{}", "", `{"name":"EVENTS","subjects":["events.>"],"deny_delete":false}`, `{"seq":1}`} {
		m := nats.NewMsg(fmt.Sprintf("events.test.stored.s%d", i))
		m.Data = []byte(body)
		if body == "" { // a message of nothing at all ends the answer that carries it
			m.Header.Set("A", "b")
		}
		_, err := s.js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	for _, subject := range []string{"guards.request.open", "events.checkpoint.approved.old"} {
		_, err = s.js.Publish(t.Context(), subject, []byte("{}"))
		require.NoError(t, err)
	}
	_, err = s.js.CreateConsumer(t.Context(), wire.LogName, jetstream.ConsumerConfig{
		Durable: known, AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	return s
}

// known is a consumer of somebody else's whose name is no secret.
const known = "known"

// connect connects a key by hand, with nothing but nats.go.
func (s *site) connect(t testing.TB, name string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	target := s.target
	if name != "" { // else it joins with the token
		target.NKey = filepath.Join(s.seeds, name)
	}
	nc, err := client.Connect(t.Context(), target, opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// client is ours, for a key.
func (s *site) client(t testing.TB, name string) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), s.connect(t, name), client.Config{StreamID: "S"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// attacker is a key that tries things by hand.
type attacker struct {
	*nats.Conn
	site    *site
	key     roles.Key
	inbox   string                 // where it listens, by right; another for each attempt
	heard   atomic.Pointer[string] // the inbox to which something came last
	refused atomic.Int64           // what the server refused
}

func (s *site) attacker(t testing.TB, name string) *attacker {
	t.Helper()
	a := &attacker{site: s, key: s.keys[name]}
	if name == "" {
		a.key.Public = roles.JoinedUser // for its inbox
	}
	a.Conn = s.connect(t, name, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.refused.Add(1) }))
	_, err := a.Subscribe(roles.InboxPrefix(a.key.Public)+".attack.*", func(m *nats.Msg) {
		if m.Header.Get("Status") != "503" { // nobody was asked
			a.heard.Store(&m.Subject)
		}
	})
	require.NoError(t, err)
	a.next()
	return a
}

// next begins an attempt: what was sent for an earlier one is no answer to this one.
func (a *attacker) next() {
	a.inbox = roles.InboxPrefix(a.key.Public) + ".attack." + nats.NewInbox()[len("_INBOX."):]
}

// answered reports that something came in answer to this attempt.
func (a *attacker) answered() bool {
	last := a.heard.Load()
	return last != nil && *last == a.inbox
}

// send publishes by hand; header is name, value, name, value…
func (a *attacker) send(subject, reply, body string, header ...string) {
	m := nats.NewMsg(subject)
	m.Reply, m.Data = reply, []byte(body)
	for i := 0; i < len(header); i += 2 {
		m.Header.Set(header[i], header[i+1])
	}
	if err := a.PublishMsg(m); err != nil {
		panic(err) // no subject of a test is one that cannot be sent
	}
}

// mine is what an attempt may write: it marks bodies, streams and consumers.
const mine = "mine"

// state is all that there is: every message, the configuration of the Log, the
// streams, and the consumers, without what attackers may make for themselves.
func (s *site) state(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var b strings.Builder
	for info := range s.js.ListStreams(ctx).Info() {
		cfg, err := json.Marshal(info.Config)
		require.NoError(t, err)
		fmt.Fprintf(&b, "stream %s\n", cfg)
	}
	log, err := s.js.Stream(ctx, wire.LogName)
	if err != nil {
		fmt.Fprintf(&b, "no Log: %v\n", err)
		return b.String()
	}
	info, err := log.Info(ctx)
	require.NoError(t, err)
	fmt.Fprintf(&b, "first %d deleted %d\n", info.State.FirstSeq, info.State.NumDeleted)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m := s.stored(ctx, t, seq)
		if m.Error != nil {
			fmt.Fprintf(&b, "%d: %s\n", seq, m.Error)
			continue
		}
		may := strings.HasPrefix(m.Message.Subject, "events.test.attempt.") || strings.HasPrefix(m.Message.Subject, "guards.user.")
		if may && string(m.Message.Data) == mine {
			continue
		}
		fmt.Fprintf(&b, "%s %q\n", m.Message.Subject, m.Message.Data) // sequences differ by what is mine
	}
	var consumers []string
	for c := range log.ListConsumers(ctx).Info() {
		if !strings.HasPrefix(c.Name, mine) && !strings.HasPrefix(c.Name, "ds_") { // nor those of our clients, which come and go
			cfg, err := json.Marshal(c.Config)
			require.NoError(t, err)
			consumers = append(consumers, fmt.Sprintf("consumer %s delivered %d ack floor %d paused %v\n", cfg, c.Delivered.Consumer, c.AckFloor.Stream, c.Paused))
		}
	}
	slices.Sort(consumers)
	return b.String() + strings.Join(consumers, "")
}

type stored struct {
	Error   json.RawMessage
	Message struct {
		Subject string
		Data    []byte
	}
}

// stored asks the Log's leader: another replica may not have the message yet.
func (s *site) stored(ctx context.Context, t testing.TB, seq uint64) (m stored) {
	t.Helper()
	answer, err := s.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+wire.LogName, fmt.Appendf(nil, `{"seq":%d}`, seq))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer.Data, &m))
	return m
}

// settle lets the server deal with all that was sent before: a request through each
// of its queues is answered.
func (a *attacker) settle(t testing.TB) {
	t.Helper()
	require.NoError(t, a.FlushTimeout(5*time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for range 3 { // an answer may be the next request
		_, err := a.site.js.Stream(ctx, wire.LogName)
		_ = err // it may be gone
		_ = a.site.js.DeleteConsumer(ctx, wire.LogName, "nobody")
	}
	require.NoError(t, a.FlushTimeout(5*time.Second))
}

func brokerKeys(list []roles.Key) (keys []broker.Key) {
	for _, k := range list {
		keys = append(keys, broker.Key{Name: k.Name, Role: string(k.Role), Public: k.Public})
	}
	return keys
}
