package broker

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/longtest"
	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// refusedWith are the words with which a message is refused.
func refusedWith(t *testing.T, js jetstream.JetStream, m *nats.Msg) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	var refused *jetstream.APIError
	require.ErrorAs(t, err, &refused)
	require.EqualValues(t, jetstream.JSErrCodeBadRequest, refused.ErrorCode)
	return refused.Description
}

// What a foreign client sends with a message's id and headers of its own is stored; of the
// engine's headers only those of our clients are, in whatever case they are written. A message
// that the gate could not pass on is refused, and ends nobody's connection.
func TestGateAndForeignClients(t *testing.T) {
	t.Parallel()
	nodes, clients, bare := gatedNodes(t, false)
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	js := bare[0]
	m := nats.NewMsg(wire.EventSubject("a.b", "s"))
	m.Data = []byte(`{"id":"x","type":"a.b","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1,"payload":{}}`)
	m.Header = nats.Header{wire.HeaderID: {"x"}, "traceparent": {"00-1-1-00"}, "X-Mine": {"1", "2"}}
	ack, err := js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	again, err := js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.Equal(t, ack.Sequence, again.Sequence)
	stored, err := nodes[0].js.Conn().Request("$JS.API.STREAM.MSG.GET."+wire.LogName, fmt.Appendf(nil, `{"seq":%d}`, ack.Sequence), 10*time.Second)
	require.NoError(t, err)
	require.NotContains(t, string(stored.Data), `"error"`)

	for _, name := range []string{jetstream.ExpectedLastMsgIDHeader, strings.ToLower(jetstream.ExpectedLastMsgIDHeader), "Nats-Rollup", "Nats-TTL",
		"Nats-Schedule", "Nats-Incr", "Status", "description"} {
		m := nats.NewMsg(wire.EventSubject("a.b", "s"))
		m.Header[name] = []string{"1"}
		require.Contains(t, refusedWith(t, js, m), name)
	}
	id, err := nodes[0].gate.Conn().GetClientID()
	require.NoError(t, err)
	long := nats.NewMsg(wire.EventSubject("a.b", strings.Repeat("s", 3960)))
	require.Contains(t, refusedWith(t, js, long), "too long")
	long.Subject, long.Reply = long.Subject+strings.Repeat("s", 60), "x" // the gate's reply is longer
	require.NoError(t, js.Conn().PublishMsg(long))
	key := agentKey(t, nodes[0])
	limit := int(js.Conn().MaxPayload())
	require.Contains(t, raw(t, nodes[0], key, "NATS/1.0\r\nX:1\r\n\r\n", limit), "maximum payload", "which is longer when it is written anew")
	require.Contains(t, raw(t, nodes[0], key, "NATS/1.0\r\nno header\r\n\r\n", 0), "cannot be read")
	require.Contains(t, raw(t, nodes[0], key, "NATS/1.0\r\nA: b\nNats-Expected-Last-Msg-Id: z\r\n\r\n", 0), "Nats-Expected-Last-Msg-Id")
	require.Contains(t, raw(t, nodes[0], key, "NATS/1.0\r\nA B: 1\r\n\r\n", 0), "A B")
	now, err := nodes[0].gate.Conn().GetClientID()
	require.NoError(t, err)
	require.Equal(t, id, now, "the gate's connection was not ended")
	for _, c := range clients {
		require.NoError(t, appendWithin(t, c, time.Minute))
	}
}

// agentKey is a new key of an agent's that a node lets in.
func agentKey(t *testing.T, b *Broker) nkeys.KeyPair {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	k, err := roles.Make("raw", roles.Agent, path)
	require.NoError(t, err)
	require.NoError(t, b.SetKeys(append([]Key{KeyOf(k)}, b.cfg.Keys...)))
	pair, err := roles.ReadSeed(path)
	require.NoError(t, err)
	return pair
}

// raw publishes headers byte by byte, as no client library writes them, in a message of a size
// (at least that of the headers), and returns the answer.
func raw(t *testing.T, b *Broker, key nkeys.KeyPair, headers string, size int) string {
	t.Helper()
	size = max(size, len(headers))
	u, err := url.Parse(b.ClientURL())
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	r := bufio.NewReader(conn)
	info, err := r.ReadString('\n')
	require.NoError(t, err)
	_, nonce, _ := strings.Cut(info, `"nonce":"`)
	nonce, _, _ = strings.Cut(nonce, `"`)
	sig, err := key.Sign([]byte(nonce))
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	inbox := roles.InboxPrefix(public) + ".raw"
	fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"protocol\":1,\"nkey\":%q,\"sig\":%q}\r\nSUB %s 1\r\n", public, base64.RawURLEncoding.EncodeToString(sig), inbox)
	fmt.Fprintf(conn, "HPUB %s %s %d %d\r\n%s%s\r\n", wire.EventSubject("a.b", "s"), inbox, len(headers), size, headers, strings.Repeat("x", size-len(headers)))
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		if strings.HasPrefix(line, "MSG ") || strings.HasPrefix(line, "HMSG ") {
			body, err := r.ReadString('\n')
			require.NoError(t, err)
			return body
		}
		require.NotContains(t, line, "-ERR")
	}
}

// What one connection sends is stored in the order in which it was sent, whatever waits for an
// answer.
func TestGateKeepsTheOrder(t *testing.T) {
	t.Parallel()
	nodes, clients, bare := gatedNodes(t, false)
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	const each = 500
	var wg sync.WaitGroup
	for i, js := range bare {
		wg.Go(func() {
			for n := range each {
				subject := wire.EventSubject("a.b", fmt.Sprint(i))
				if n%3 == 0 { // the guards' import is another one
					subject = wire.GuardSubject(event.GuardUser, fmt.Sprint(i))
				}
				m := nats.NewMsg(subject)
				m.Data = fmt.Append(nil, n)
				if _, err := js.PublishMsgAsync(m); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-js.PublishAsyncComplete():
			case <-time.After(time.Minute):
				t.Error("not all were answered")
			}
		})
	}
	wg.Wait()
	log, err := nodes[0].js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	next := map[string]int{}
	for n := range each * len(bare) {
		m, err := log.GetMsg(t.Context(), uint64(n)+2) // behind the first
		require.NoError(t, err)
		who := m.Subject[strings.LastIndex(m.Subject, ".")+1:]
		require.Equal(t, fmt.Sprint(next[who]), string(m.Data), "of %s", who)
		next[who]++
	}
}

// The gate's connection is lost while much is on its way, again and again: what was acknowledged
// is stored where the acknowledgement says, once, and the rest is tried again under its id.
func TestGateLosesItsConnection(t *testing.T) {
	t.Parallel()
	nodes, clients, _ := gatedNodes(t, false)
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	done, lost := make(chan struct{}), 0
	var wg, writers sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(longtest.Pick(40*time.Millisecond, 150*time.Millisecond)):
			}
			for _, b := range nodes {
				if id, err := b.gate.Conn().GetClientID(); err == nil && b.server.DisconnectClientByID(id) == nil {
					lost++
				}
			}
		}
	})
	var mu sync.Mutex
	acked := map[event.Sequence]string{}
	note := func(rs ...event.Recorded) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range rs {
			acked[r.Seq] = r.ID
		}
	}
	for i, c := range clients {
		for w := range longtest.Pick(3, 8) {
			writers.Go(func() {
				for n := range 15 {
					if (n+w)%3 != 0 {
						r, err := c.Append(ctx, event.Event{Type: "task.created", Actor: fmt.Sprint(i)})
						if err != nil {
							t.Error(err)
							return
						}
						note(r)
						continue
					}
					batch := make([]event.Event, 20)
					for j := range batch {
						batch[j] = event.Event{Type: "task.created", Actor: fmt.Sprint(i)}
					}
					rs, err := c.AppendBatch(ctx, batch)
					if err != nil {
						t.Error(err)
						return
					}
					note(rs...)
				}
			})
		}
	}
	writers.Wait()
	close(done)
	wg.Wait()
	require.Positive(t, lost)
	ids := map[string]bool{}
	for r, err := range clients[0].Query(t.Context(), event.Filter{Linearizable: true}) {
		require.NoError(t, err)
		require.False(t, ids[r.ID], "%s is stored twice", r.ID)
		ids[r.ID] = true
		if id, ok := acked[r.Seq]; ok {
			require.Equal(t, id, r.ID)
			delete(acked, r.Seq)
		}
	}
	require.Empty(t, acked, "acknowledged and not stored")
}

// Where more waits than may, the gate says that it is busy: our clients ask again, and a foreign
// one hears what was not stored.
func TestGateIsBusy(t *testing.T) {
	t.Parallel()
	nodes, clients, bare := gatedNodes(t, false, func(c *Config) { c.gateMost = 2 })
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	before, err := clients[0].Position(t.Context())
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			batch := make([]event.Event, 1+10*(i%2))
			for j := range batch {
				batch[j] = event.Event{Type: "task.created", Actor: "a"}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := clients[0].AppendBatch(ctx, batch)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after, err := clients[0].Position(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 20+20*11, after-before, "each once")

	var futures []jetstream.PubAckFuture
	for n := range 3000 {
		f, err := bare[0].PublishMsgAsync(nats.NewMsg(wire.EventSubject("a.b", fmt.Sprint(n))))
		require.NoError(t, err)
		futures = append(futures, f)
	}
	acks, busy := 0, 0
	for _, f := range futures {
		select {
		case <-f.Ok():
			acks++
		case err := <-f.Err():
			var refused *jetstream.APIError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, engine.CodeTooManyWaiting, refused.ErrorCode)
			busy++
		case <-time.After(time.Minute):
			t.Fatal("a message was not answered")
		}
	}
	require.Positive(t, busy)
	info, err := nodes[0].js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.EqualValues(t, int(after)+acks, info.CachedInfo().State.LastSeq)
}

// A node without a gate, of an earlier version or with AnyHeaders, and nodes with one make a
// cluster: each takes what its clients send. What the message does that stops the Log is up to
// the node that an agent connects to.
func TestGateOnSomeNodes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent")
	key, err := roles.Make("agent", roles.Agent, path)
	require.NoError(t, err)
	cfgs := clusterOf(t, 3)
	for i := range cfgs {
		cfgs[i].Keys, cfgs[i].AnyHeaders = []Key{KeyOf(key)}, i == 0
	}
	for _, b := range upAll(t, cfgs) {
		nc, err := client.Connect(t.Context(), client.Target{Servers: []string{b.ClientURL()}, NKey: path}, nats.IgnoreDiscoveredServers())
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		require.NoError(t, appendWithin(t, c, time.Minute))
		_, err = c.AppendBatch(t.Context(), []event.Event{{Type: "task.created", Actor: "a"}, {Type: "task.completed", Actor: "a"}})
		require.NoError(t, err)
	}
}

// Keys are exchanged under the gate: it goes on, also for the new ones.
func TestGateAndNewKeys(t *testing.T) {
	t.Parallel()
	nodes, clients, bare := gatedNodes(t, false)
	require.NoError(t, appendWithin(t, clients[0], time.Minute))
	path := filepath.Join(t.TempDir(), "another")
	another, err := roles.Make("another", roles.Operator, path)
	require.NoError(t, err)
	for _, b := range nodes {
		require.NoError(t, b.SetKeys(append([]Key{KeyOf(another)}, b.cfg.Keys...)))
	}
	require.NoError(t, appendWithin(t, clients[0], time.Minute), "with the old key")
	nc, err := client.Connect(t.Context(), client.Target{Servers: []string{nodes[0].ClientURL()}, NKey: path})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := client.New(t.Context(), nc, client.Config{StreamID: "s"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.NoError(t, appendWithin(t, c, time.Minute), "with the new one")
	js, err := jetstream.NewWithAPIPrefix(nc, roles.APIPrefix)
	require.NoError(t, err)
	for _, js := range []jetstream.JetStream{bare[0], js} {
		require.Contains(t, refusedWith(t, js, stopping()), jetstream.ExpectedLastMsgIDHeader)
	}
}
