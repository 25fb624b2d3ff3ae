package broker_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// rawServer runs a bare nats-server on a host's store while f uses it: what
// somebody else's tool might leave there.
func rawServer(t *testing.T, dir string, f func(jetstream.JetStream)) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(dir, broker.StoreDir),
	})
	require.NoError(t, err)
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	require.True(t, s.ReadyForConnections(10*time.Second))
	nc, err := nats.Connect("", nats.InProcessServer(s))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	f(js)
}

// Each weaker setting is refused by its name, and the stream is left as it was.
// The settings of CheckLog that the engine does not let a stored stream have are
// tested in package wire.
func TestWeakerLogIsRefused(t *testing.T) {
	t.Parallel()
	for setting, weaken := range map[string]func(*jetstream.StreamConfig){
		"metadata":          func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"metadata ":         func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"owner": "me"} },
		"subjects":          func(c *jetstream.StreamConfig) { c.Subjects = []string{wire.AllEvents} },
		"subjects ":         func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "more.>") },
		"deny_delete":       func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"deny_purge":        func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"allow_msg_counter": func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld },
		"no_ack":            func(c *jetstream.StreamConfig) { c.NoAck = true },
		"max_msg_size":      func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 },
		"allow_atomic":      func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"allow_direct":      func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"duplicate_window":  func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute },
		"sources": func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}}
		},
		"republish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: wire.AllEvents, Destination: "copy.>"}
		},
		"subject transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: wire.AllEvents, Destination: "events.x.>"}
		},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := wire.LogConfig(1, 0)
			weaken(&cfg)
			rawServer(t, dir, func(js jetstream.JetStream) {
				s, err := js.CreateStream(t.Context(), cfg)
				require.NoError(t, err)
				m := nats.NewMsg("events.a.b.s")
				if cfg.AllowMsgCounter {
					m.Header.Set("Nats-Incr", "1")
				}
				require.NoError(t, js.Conn().PublishMsg(m))
				require.Eventually(t, func() bool {
					info, err := s.Info(t.Context())
					return err == nil && info.State.LastSeq == 1
				}, 10*time.Second, 5*time.Millisecond)
			})
			_, err := start(t, broker.Config{Dir: dir})
			var weak *event.WeakLogError
			require.ErrorAs(t, err, &weak)
			require.Contains(t, weak.Setting, trimName(setting))
			require.ErrorContains(t, err, weak.Setting)
			require.NoFileExists(t, broker.AddressPath(dir))
			rawServer(t, dir, func(js jetstream.JetStream) {
				s, err := js.Stream(t.Context(), wire.LogName)
				require.NoError(t, err)
				require.EqualValues(t, 1, s.CachedInfo().State.LastSeq, "nothing was overwritten")
				require.Error(t, wire.CheckLog(s.CachedInfo().Config, 0), "nothing was changed")
			})
		})
	}
}

// A limit by which the engine deletes events is taken off before the engine sees it.
func TestLimitsAreTakenOff(t *testing.T) {
	t.Parallel()
	for setting, limit := range map[string]func(*jetstream.StreamConfig){
		"retention":            func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"allow_msg_ttl":        func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"max_msgs":             func(c *jetstream.StreamConfig) { c.MaxMsgs = 1_000_000 },
		"max_bytes":            func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 30 },
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = 1000 * time.Hour },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 100 },
		"discard_new_per_subject": func(c *jetstream.StreamConfig) {
			c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 100, true
		},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := wire.LogConfig(1, 0)
			limit(&cfg)
			rawServer(t, dir, func(js jetstream.JetStream) {
				_, err := js.CreateStream(t.Context(), cfg)
				require.NoError(t, err)
			})
			var said strings.Builder
			b, err := start(t, broker.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			require.NoError(t, err)
			require.NoError(t, b.Stop(t.Context()))
			require.Contains(t, said.String(), setting)
			rawServer(t, dir, func(js jetstream.JetStream) {
				s, err := js.Stream(t.Context(), wire.LogName)
				require.NoError(t, err)
				require.NoError(t, wire.CheckLog(s.CachedInfo().Config, 0))
			})
		})
	}
}

// trimName lets the table above have two cases of one name.
func trimName(s string) string {
	if n := len(s) - 1; s[n] == ' ' {
		return s[:n]
	}
	return s
}

func TestSealedLogIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawServer(t, dir, func(js jetstream.JetStream) {
		cfg := wire.LogConfig(1, 0)
		s, err := js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
		cfg = s.CachedInfo().Config
		cfg.Sealed = true
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
	})
	var weak *event.WeakLogError
	_, err := start(t, broker.Config{Dir: dir})
	require.ErrorAs(t, err, &weak)
	require.Equal(t, "sealed", weak.Setting)
}

func TestStricterLogIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawServer(t, dir, func(js jetstream.JetStream) {
		cfg := wire.LogConfig(1, time.Hour)
		cfg.Compression = jetstream.S2Compression
		cfg.Metadata["owner"] = "me"
		_, err := js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
	})
	_, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err)
}

// A setting that is weakened while the broker runs is found at the next start,
// which then says how to go on: set it back.
func TestLogWeakenedLater(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	setWindow := func(d time.Duration) {
		js := h.Admin(t)
		s, err := js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)
		cfg := s.CachedInfo().Config
		cfg.Duplicates = d
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
	}
	setWindow(time.Second)
	require.NoError(t, h.Broker.Stop(t.Context()))
	_, err := broker.Start(t.Context(), h.Config)
	var weak *event.WeakLogError
	require.ErrorAs(t, err, &weak)
	require.Equal(t, event.WeakLogError{Setting: "duplicate_window", Have: "1s", Want: "10m0s or more"}, *weak)

	cfg := h.Config
	cfg.DuplicateWindow = time.Second
	h.Broker, err = broker.Start(t.Context(), cfg)
	require.NoError(t, err, "who asks for less gets it, and the lock is free")
	setWindow(wire.DefaultDuplicateWindow)
	h.Restart(t)
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"2", "10", "next"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := wire.LogConfig(1, 0)
			for k := range cfg.Metadata {
				cfg.Metadata[k] = format
			}
			rawServer(t, dir, func(js jetstream.JetStream) {
				_, err := js.CreateStream(t.Context(), cfg)
				require.NoError(t, err)
			})
			var newer *event.NewerFormatError
			_, err := start(t, broker.Config{Dir: dir})
			require.ErrorAs(t, err, &newer)
			require.Equal(t, format, newer.Have)
			require.ErrorContains(t, err, "newer dstream")
		})
	}
}

func TestHalfRestoredLogIsRefused(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	mark := func(on bool) {
		js := h.Admin(t)
		s, err := js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)
		_, err = js.UpdateStream(t.Context(), wire.MarkRestoring(s.CachedInfo().Config, on))
		require.NoError(t, err)
	}
	mark(true)
	require.NoError(t, h.Broker.Stop(t.Context()))
	_, err := broker.Start(t.Context(), h.Config)
	require.ErrorIs(t, err, broker.ErrRestoring)

	cfg := h.Config
	cfg.Restoring = true
	h.Broker, err = broker.Start(t.Context(), cfg)
	require.NoError(t, err)
	mark(false)
	require.NoError(t, h.Broker.Stop(context.Background()))
	h.Boot(t)
}
