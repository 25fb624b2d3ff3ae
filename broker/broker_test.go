package broker_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

func newEvent(payload string) event.Event {
	return event.Event{Type: "test.event", StreamID: "s", Actor: "tester", Payload: []byte(payload)}
}

// all reads the whole Log.
func all(t *testing.T, h *brokertest.Host) []event.Recorded {
	t.Helper()
	var out []event.Recorded
	for r, err := range h.Client.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// start starts a broker that ends with the test.
func start(t *testing.T, cfg broker.Config) (*broker.Broker, error) {
	t.Helper()
	b, err := broker.Start(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, b.Stop(context.Background())) })
	}
	return b, err
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	var want []event.Recorded
	for round := range 4 {
		for i := range 20 {
			r, err := h.Client.Append(t.Context(), newEvent(fmt.Sprintf(`{"round":%d,"i":%d}`, round, i)))
			require.NoError(t, err)
			want = append(want, r)
		}
		batch := make([]event.Event, 30)
		for i := range batch {
			batch[i] = newEvent(fmt.Sprint(i))
		}
		rs, err := h.Client.AppendBatch(t.Context(), batch)
		require.NoError(t, err)
		want = append(want, rs...)
		h.Restart(t)
		require.Equal(t, want, all(t, h), "after restart %d", round+1)
	}
	require.EqualValues(t, 200, want[199].Seq)
}

func TestStopMayBeCalledAgain(t *testing.T) {
	t.Parallel()
	b, err := start(t, broker.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	var stops sync.WaitGroup
	for range 8 {
		stops.Go(func() {
			if err := b.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	require.NoError(t, b.Stop(t.Context()))
	_, err = b.Connect()
	require.Error(t, err, "a stopped broker takes no connections")
}

// A Stop whose context ends says so; the lock is held until the shutdown has ended.
func TestStopHonoursItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err)
	looking, release := make(chan struct{}), make(chan struct{})
	var looks atomic.Int32
	b.WatchDisk(1, func() (int64, error) {
		if looks.Add(1) == 2 { // the first is that of the start
			close(looking)
			<-release
		}
		return 1 << 40, nil
	})
	<-looking
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Stop(ended), context.Canceled)
	var locked *broker.LockedError
	_, err = start(t, broker.Config{Dir: dir})
	require.ErrorAs(t, err, &locked)

	close(release)
	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, b.Stop(ended), "it has stopped")
	_, err = start(t, broker.Config{Dir: dir})
	require.NoError(t, err)
}

func TestSecondStartIsLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err)

	var locked *broker.LockedError
	_, err = start(t, broker.Config{Dir: dir})
	require.ErrorAs(t, err, &locked)
	require.Zero(t, locked.PID, "no address, so no pid")
	require.NotContains(t, err.Error(), "process 0")

	require.NoError(t, b.Advertise())
	_, err = start(t, broker.Config{Dir: dir})
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	require.Equal(t, filepath.Join(dir, broker.LockFile), locked.Path)
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()))

	a, err := address.Read(broker.AddressPath(dir))
	require.NoError(t, err, "the refused start left the host's address alone")
	require.Equal(t, b.Address(), a)

	require.NoError(t, b.Stop(t.Context()))
	_, err = start(t, broker.Config{Dir: dir})
	require.NoError(t, err, "free after Stop")
}

// A host in another process drops its Broker and collects garbage: the lock must
// stay. The control drops a bare lock, which the collector then frees: so the
// collector did run, and the test sees it.
func TestLockOutlivesItsVariable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := brokertest.Child(t, hostDir+"="+dir, hostMode+"=host")
	var locked *broker.LockedError
	_, err := start(t, broker.Config{Dir: dir})
	require.ErrorAs(t, err, &locked)
	require.Equal(t, host.Process.Pid, locked.PID)

	require.NoError(t, host.Process.Kill())
	host.Wait() // its error is the kill
	b, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err, "the lock of a killed host is free at once")
	require.NoError(t, b.Stop(t.Context()))

	t.Run("control", func(t *testing.T) {
		brokertest.Child(t, hostDir+"="+dir, hostMode+"=lock")
		require.Eventually(t, func() bool {
			_, err := start(t, broker.Config{Dir: dir})
			return err == nil
		}, 10*time.Second, 10*time.Millisecond, "a bare lock is collected")
	})
}

func TestBadConfigIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listen, says string
	}{
		"no port":         {"127.0.0.1", "host:port"},
		"nonsense":        {"nonsense", "host:port"},
		"port not number": {"127.0.0.1:x", "port"},
		"port too large":  {"127.0.0.1:65536", "port"},
		"port negative":   {"127.0.0.1:-1", "port"},
		"every interface": {"0.0.0.0:0", "loopback"},
		"no host":         {":0", "loopback"},
		"every IPv6":      {"[::]:0", "loopback"},
		"a network":       {"192.0.2.1:0", "loopback"},
		"a name":          {"example.com:0", "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "host")
			_, err := start(t, broker.Config{Dir: dir, Listen: c.listen})
			require.ErrorContains(t, err, fmt.Sprintf("%q", c.listen), "the value")
			require.ErrorContains(t, err, c.says, "the rule")
			require.NoDirExists(t, dir, "nothing was made")
		})
	}
	t.Run("no directory", func(t *testing.T) {
		_, err := start(t, broker.Config{})
		require.ErrorContains(t, err, "Dir")
	})
}

func TestLoopbackAddressesWork(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", "127.0.0.1:0", "localhost:0", "127.0.0.2:0", "[::1]:0"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			if l, err := net.Listen("tcp", listen); listen != "" {
				if err != nil {
					t.Skipf("this machine has no %s: %v", listen, err)
				}
				l.Close()
			}
			h := brokertest.Start(t, func(c *broker.Config) { c.Listen = listen })
			_, err := h.Client.Append(t.Context(), newEvent("1"))
			require.NoError(t, err)
		})
	}
}

// Root may write everywhere, so the unwritable places here are below or in place
// of regular files.
func TestUnusableDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("below a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
		_, err := start(t, broker.Config{Dir: filepath.Join(file, "host")})
		require.ErrorContains(t, err, file)
		unchanged(t, file, "mine")
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "host")
		require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
		_, err := start(t, broker.Config{Dir: file})
		require.ErrorContains(t, err, file)
		unchanged(t, file, "mine")
	})
	t.Run("store is a file", func(t *testing.T) {
		dir := t.TempDir()
		store := filepath.Join(dir, broker.StoreDir)
		require.NoError(t, os.WriteFile(store, []byte("mine"), 0o600))
		_, err := start(t, broker.Config{Dir: dir})
		require.ErrorContains(t, err, store)
		unchanged(t, store, "mine")
		require.NoError(t, os.Remove(store))
		_, err = start(t, broker.Config{Dir: dir})
		require.NoError(t, err, "the lock was freed")
	})
	t.Run("lock is a directory", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, broker.LockFile), 0o700))
		_, err := start(t, broker.Config{Dir: dir})
		require.ErrorContains(t, err, "lock")
		require.NotErrorAs(t, err, new(*broker.LockedError))
	})
}

func unchanged(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dir := t.TempDir()
	began := time.Now()
	_, err = start(t, broker.Config{Dir: dir, Listen: l.Addr().String()})
	require.ErrorContains(t, err, l.Addr().String())
	require.ErrorContains(t, err, "in use")
	require.NotErrorAs(t, err, new(*broker.LockedError))
	require.Less(t, time.Since(began), 10*time.Second)
	require.NoFileExists(t, broker.AddressPath(dir))

	_, err = start(t, broker.Config{Dir: dir})
	require.NoError(t, err, "the lock was freed")
}

func TestStartUnderAnEndedContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := broker.Start(ctx, broker.Config{Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	_, err = start(t, broker.Config{Dir: dir})
	require.NoError(t, err, "the lock was freed")
}

func TestHostDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	mode := func(path string) fs.FileMode {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Mode().Perm()
	}
	dir := h.Config.Dir
	require.Equal(t, fs.FileMode(0o700), mode(dir))
	require.Equal(t, fs.FileMode(0o600), mode(broker.AddressPath(dir)), "it holds the token")
	require.Equal(t, fs.FileMode(0o600), mode(filepath.Join(dir, broker.LockFile)))
	unchanged(t, filepath.Join(dir, ".gitignore"), "*\n")

	require.NoError(t, os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("# mine\n"), 0o600))
	h.Restart(t)
	unchanged(t, filepath.Join(dir, ".gitignore"), "# mine\n")
}

func TestAddressLivesAsLongAsTheHost(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t, func(c *broker.Config) { c.Version = "v1.2.3" })
	path := broker.AddressPath(h.Config.Dir)
	a, err := address.Read(path)
	require.NoError(t, err)
	require.Equal(t, h.Broker.Address(), a)
	require.Equal(t, os.Getpid(), a.PID)
	require.Equal(t, wire.Format, a.Format)
	require.Equal(t, "v1.2.3", a.Version)
	require.True(t, strings.HasPrefix(a.URL, "nats://127.0.0.1:"), a.URL)

	require.NoError(t, h.Broker.Stop(t.Context()))
	_, err = address.Read(path)
	require.ErrorIs(t, err, address.ErrNone)

	h.Boot(t)
	b := h.Broker.Address()
	require.NotEqual(t, a.Token, b.Token, "each start has a token of its own")
	require.NotEqual(t, a.ServerID, b.ServerID)

	b.PID++ // another process has taken the place of this one
	require.NoError(t, address.Write(path, b))
	require.NoError(t, h.Broker.Stop(t.Context()))
	left, err := address.Read(path)
	require.NoError(t, err, "another process's address stays")
	require.Equal(t, b, left)
}

func TestStrangersAreNotLetIn(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	url := h.Broker.ClientURL()
	for _, opts := range [][]nats.Option{nil, {nats.Token("guess")}, {nats.UserInfo("a", "b")}} {
		nc, err := nats.Connect(url, opts...)
		if err == nil {
			nc.Close()
		}
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
}

func TestRecreateLog(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	require.NoError(t, h.Broker.RecreateLog(t.Context(), 5001))
	at, err := h.Client.Position(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5000, at)
	r, err := h.Client.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.EqualValues(t, 5001, r.Seq)
	h.Restart(t)
	require.Equal(t, []event.Recorded{r}, all(t, h))

	require.Error(t, h.Broker.RecreateLog(t.Context(), 9001), "a Log with events stays")
	require.Equal(t, []event.Recorded{r}, all(t, h))
}

// What SyncAlways does is tested by a power cut, in powercut_linux_test.go.
func TestEngineOptions(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	varz, err := h.Broker.Varz()
	require.NoError(t, err)
	require.True(t, varz.JetStream.Config.SyncAlways)
	require.EqualValues(t, 8<<20, varz.MaxPayload)
	require.EqualValues(t, 8<<20, h.Conn.MaxPayload())
	js := h.Admin(t)
	_, err = js.Publish(t.Context(), "events.a.b.s", make([]byte, 8<<20))
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "events.a.b.s", make([]byte, 8<<20+1))
	require.ErrorIs(t, err, nats.ErrMaxPayload)
}
