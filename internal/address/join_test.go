package address_test

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
)

// hosted is a directory with a lock that is held, an address, and something that proves
// itself to be the host of the directory proves.
type hosted struct {
	dir, path string
	address   address.Address
	ended     chan struct{}
}

func hostIn(t testing.TB, proves string) *hosted {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "durable_stream")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "store"), 0o700))
	if proves == "" {
		proves = dir
	}
	h := &hosted{dir: dir, path: filepath.Join(dir, "address"), address: sample(os.Getpid()), ended: make(chan struct{}, 1)}
	about := func() (address.Answer, bool) {
		return address.Answer{URL: h.address.URL, ServerID: h.address.ServerID, Log: "l", PID: 1}, true
	}
	p, err := address.Prove(proves, about, func() { h.ended <- struct{}{} })
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	h.address.Prove = p.Addr()
	require.NoError(t, address.Write(h.path, h.address))
	lock := flock.New(filepath.Join(dir, "store"), flock.SetFlag(os.O_RDONLY))
	held, err := lock.TryLock()
	require.NoError(t, err)
	require.True(t, held)
	t.Cleanup(func() { _ = lock.Unlock() })
	return h
}

// refused finds no host, and says why.
func (h *hosted) refused(t *testing.T, why string) {
	t.Helper()
	_, err := address.Find(h.path)
	var distrust *address.DistrustError
	require.ErrorAs(t, err, &distrust)
	require.Equal(t, h.path, distrust.Path)
	require.ErrorContains(t, err, why)
}

func (h *hosted) found(t *testing.T) {
	t.Helper()
	got, err := address.Find(h.path)
	require.NoError(t, err)
	require.Equal(t, address.Host{Address: h.address, Log: "l", Proven: true}, got)
}

func TestFind(t *testing.T) {
	t.Parallel()
	h := hostIn(t, "")
	h.found(t)

	require.NoError(t, os.Chmod(h.path, 0o644)) // as git makes it
	h.refused(t, "its mode is 0644")
	require.NoError(t, os.Chmod(h.path, 0o600))
	h.found(t)

	require.NoError(t, os.Chmod(h.dir, 0o755)) // as an earlier version, or a umask, may have left it
	h.found(t)
	info, err := os.Stat(h.dir)
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm())

	require.NoError(t, os.Link(h.path, h.path+".too"))
	h.refused(t, "hard link")
	require.NoError(t, os.Remove(h.path))
	require.NoError(t, os.Symlink(h.path+".too", h.path))
	h.refused(t, "a link to one")
	require.NoError(t, os.Remove(h.path))
	require.NoError(t, os.Remove(h.path+".too"))

	for url, why := range map[string]string{
		"nats://192.0.2.7:4222": "192.0.2.7:4222 is another machine", "nats://[2001:db8::1]:4222": "is another machine",
		"nats://:4222": "is no address", "%": "is no address",
	} {
		elsewhere := h.address
		elsewhere.URL = url
		require.NoError(t, address.Write(h.path, elsewhere))
		h.refused(t, why)
	}
	require.NoError(t, address.Write(h.path, h.address))
	h.found(t)

	link := filepath.Join(t.TempDir(), "durable_stream")
	require.NoError(t, os.Symlink(h.dir, link))
	_, err = address.Find(filepath.Join(link, "address"))
	require.ErrorContains(t, err, link+" is a link")
}

func TestFindWhereNobodyHosts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "durable_stream")
	path := filepath.Join(dir, "address")
	_, err := address.Find(path)
	require.ErrorIs(t, err, address.ErrNone)
	require.NoDirExists(t, dir)
	require.NoError(t, os.Mkdir(dir, 0o700))
	_, err = address.Find(path)
	require.ErrorIs(t, err, address.ErrNone)
	require.NoError(t, address.Write(path, sample(os.Getpid()))) // a process that lives proves nothing
	_, err = address.Find(path)
	require.ErrorIs(t, err, address.ErrNoHost)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "store"), 0o700))
	_, err = address.Find(path)
	require.ErrorIs(t, err, address.ErrNoHost)
}

// A host of the version before cannot prove anything: its lock and its owner must do.
func TestFindAHostOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	h := hostIn(t, "")
	h.address.Prove = ""
	require.NoError(t, address.Write(h.path, h.address))
	got, err := address.Find(h.path)
	require.NoError(t, err)
	require.Equal(t, address.Host{Address: h.address, Old: true}, got)
	require.ErrorContains(t, address.End(h.dir), "earlier version")
}

// What answers and does not see the directory is not joined, whatever it answers.
func TestFindAStranger(t *testing.T) {
	t.Parallel()
	t.Run("a host of another directory", func(t *testing.T) {
		h := hostIn(t, t.TempDir())
		_, err := address.Find(h.path)
		require.ErrorIs(t, err, address.ErrUnproven)
		require.ErrorIs(t, address.End(h.dir), address.ErrUnproven)
		require.Empty(t, h.ended)
	})
	t.Run("one that asks the true host", func(t *testing.T) {
		h := hostIn(t, "")
		between := h.address
		between.URL = "nats://127.0.0.1:9"
		require.NoError(t, address.Write(h.path, between)) // and leads to where the proof is good
		_, err := address.Find(h.path)
		require.ErrorIs(t, err, address.ErrUnproven)
		require.ErrorContains(t, err, h.address.URL)
	})
	for name, answer := range map[string]string{
		"nothing": "", "junk": "hello\n", "no signature": `{"url":"nats://127.0.0.1:4222","server_id":"S","log":"l"}` + "\n",
		"without an end": strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = bufio.NewReader(conn).ReadString('\n')
				_, _ = conn.Write([]byte(answer))
				_ = conn.Close()
			}()
			h := hostIn(t, "")
			h.address.Prove = l.Addr().String()
			require.NoError(t, address.Write(h.path, h.address))
			_, err = address.Find(h.path)
			require.ErrorIs(t, err, address.ErrUnproven)
			<-done
			require.NoError(t, l.Close())
		})
	}
	t.Run("on another machine", func(t *testing.T) {
		h := hostIn(t, "")
		h.address.Prove = "192.0.2.7:1"
		require.NoError(t, address.Write(h.path, h.address))
		_, err := address.Find(h.path)
		require.ErrorIs(t, err, address.ErrUnproven)
	})
}

// Who can write in the directory may ask the host to end, and nobody else.
func TestEnd(t *testing.T) {
	t.Parallel()
	h := hostIn(t, "")
	require.NoError(t, address.End(h.dir))
	<-h.ended
	for _, q := range []string{
		`{"ask":"end","id":"x"}`, `{"ask":"end"}`, `{"ask":"join","id":""}`, `{"ask":"","id":""}`, `{}`, `junk`,
	} {
		conn, err := net.Dial("tcp", h.address.Prove)
		require.NoError(t, err)
		_, err = conn.Write([]byte(q + "\n"))
		require.NoError(t, err)
		require.Error(t, json.NewDecoder(conn).Decode(&struct{}{}), "it is not answered")
		require.NoError(t, conn.Close())
	}
	require.Empty(t, h.ended)
	left, err := os.ReadDir(h.dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "the address and the store")
}

func TestHolder(t *testing.T) {
	t.Parallel()
	h := hostIn(t, "")
	require.Equal(t, os.Getpid(), address.Holder(h.dir, os.Getpid()))
	require.Zero(t, address.Holder(h.dir, os.Getppid()))
	require.Zero(t, address.Holder(h.dir, 0))
	require.Zero(t, address.Holder(filepath.Dir(h.dir), os.Getpid()))
}

// Many who ask at once are all answered, and what one left behind who was killed goes.
func TestManyAsk(t *testing.T) {
	t.Parallel()
	h := hostIn(t, "")
	left := filepath.Join(h.dir, "join.A.B")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(left, old, old))
	young := filepath.Join(h.dir, "join.C.D")
	require.NoError(t, os.WriteFile(young, nil, 0o600))
	errs := make(chan error, 300)
	for range cap(errs) {
		go func() {
			_, err := address.Find(h.path)
			errs <- err
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.NoFileExists(t, left)
	require.FileExists(t, young)
}
