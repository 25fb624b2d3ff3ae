package hosting_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// openServer opens the log of a server, and what was logged.
func openServer(t *testing.T, url string, change func(*durablestream.Config)) (*durablestream.DurableStream, string, error) {
	t.Helper()
	var words brokertest.Words
	cfg := durablestream.Config{Servers: []string{url}, Logger: slog.New(slog.NewTextHandler(&words, nil))}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d, err := durablestream.Open(ctx, cfg)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, d.Close()) })
	}
	return d, words.String(), err
}

func TestPlainServer(t *testing.T) {
	t.Parallel()
	s := brokertest.StartPlain(t, nil)
	_, _, err := openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.Command.NoCreate = true })
	require.ErrorIs(t, err, client.ErrNoLog)

	d, words, err := openServer(t, s.ClientURL(), nil)
	require.NoError(t, err)
	require.Contains(t, words, "whether it syncs to disk before it acknowledges (sync_interval: always) cannot be seen")
	r, err := d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
	require.EqualValues(t, 1, r.Seq)
	st, err := d.Admin().State(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, st.Config.Replicas)

	monitored := func(c *durablestream.Config) { c.ServerMonitor = []string{brokertest.MonitorURL(s)} }
	_, words, err = openServer(t, s.ClientURL(), monitored)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(words, "\n"), "it is seen to sync: %s", words)
	require.Contains(t, words, "plain admits 1000 readers (consumers) at a time, and one more waits until another ends: raise default_max_consumers")
	_, _, err = openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.Replicas = 3 })
	var weak *event.WeakLogError
	require.ErrorAs(t, err, &weak)
	require.Equal(t, "num_replicas", weak.Setting)
	_, _, err = openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.ServerMonitor = []string{"http://127.0.0.1:1"} })
	require.ErrorContains(t, err, "http://127.0.0.1:1")
}

func TestServerThatSyncsLater(t *testing.T) {
	t.Parallel()
	s := brokertest.StartPlain(t, func(o *server.Options) { o.SyncAlways = false })
	monitored := func(c *durablestream.Config) { c.ServerMonitor = []string{brokertest.MonitorURL(s)} }
	_, _, err := openServer(t, s.ClientURL(), monitored)
	var weak *client.WeakServerError
	require.ErrorAs(t, err, &weak)
	require.ErrorContains(t, err, "plain acknowledges before it syncs to disk, which it does every 2m0s")
	require.ErrorContains(t, err, "--accept-weaker-durability")

	d, words, err := openServer(t, s.ClientURL(), func(c *durablestream.Config) { monitored(c); c.AcceptWeakerDurability = true })
	require.NoError(t, err)
	require.Contains(t, words, "weaker durability is accepted")
	_, err = d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
}

func TestServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	s := brokertest.StartPlain(t, func(o *server.Options) { o.JetStream = false })
	_, _, err := openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.AcceptWeakerDurability = true })
	require.ErrorIs(t, err, client.ErrNoJetStream)
}

// older makes a server tell an older version.
func older(t *testing.T, s *server.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(s.ClientURL(), "nats://"))
			if err != nil {
				_ = in.Close()
				continue
			}
			all.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			all.Go(func() {
				defer in.Close()
				for chunk := make([]byte, 64<<10); ; { // the server tells it again later
					n, err := out.Read(chunk)
					_, werr := in.Write(bytes.ReplaceAll(chunk[:n], []byte(`"version":"`+server.VERSION), []byte(`"version":"2.13.9`)))
					if err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return "nats://" + l.Addr().String()
}

func TestOlderServer(t *testing.T) {
	t.Parallel()
	url := older(t, brokertest.StartPlain(t, nil))
	_, _, err := openServer(t, url, nil)
	require.ErrorContains(t, err, "its version is 2.13.9, and 2.14 or later is needed")
	_, _, err = openServer(t, url, func(c *durablestream.Config) { c.AcceptWeakerDurability = true })
	require.NoError(t, err)
}

// mark marks the Log of a server as being restored.
func mark(t *testing.T, s *server.Server) {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	_, err = js.UpdateStream(t.Context(), wire.MarkRestoring(stream.CachedInfo().Config, true))
	require.NoError(t, err)
}

// A half restored log is refused, also on servers.
func TestServerHalfRestored(t *testing.T) {
	t.Parallel()
	s := brokertest.StartPlain(t, nil)
	d, _, err := openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.Command.Restoring = true })
	require.NoError(t, err)
	require.NoError(t, d.Admin().RecreateLog(t.Context(), 5001))
	st, err := d.Admin().State(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5000, st.Last)
	mark(t, s)
	_, _, err = openServer(t, s.ClientURL(), nil)
	require.ErrorIs(t, err, wire.ErrRestoring)
}

// Twenty writers open a new cluster's log at once: there is one log, of three replicas.
func TestPlainClusterOpenedAtOnce(t *testing.T) {
	t.Parallel()
	servers := brokertest.StartBareCluster(t)
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() {
			d, err := durablestream.Open(t.Context(), durablestream.Config{Servers: servers})
			if err == nil {
				_, err = d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
				_ = d.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	d, _, err := openServer(t, servers[0], nil)
	require.NoError(t, err)
	st, err := d.Admin().State(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, st.Config.Replicas)
	require.EqualValues(t, 20, st.Messages)
	require.Equal(t, "test", st.Cluster)
	require.Len(t, st.Replicas, 3)
}

func TestServerThatAdmitsFewReaders(t *testing.T) {
	t.Parallel()
	s := brokertest.StartPlain(t, func(o *server.Options) { o.JetStreamLimits.DefaultMaxConsumers = -1 })
	nc, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	cfg := wire.LogConfig(1, 0)
	cfg.MaxConsumers = 7
	_, err = js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, words, err := openServer(t, s.ClientURL(), func(c *durablestream.Config) { c.ServerMonitor = []string{brokertest.MonitorURL(s)} })
	require.NoError(t, err)
	require.Contains(t, words, "the stream EVENTS admits 7 readers (consumers) at a time")
	require.NotContains(t, words, "default_max_consumers")
}
