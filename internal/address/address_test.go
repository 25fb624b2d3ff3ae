package address_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

func sample(pid int) address.Address {
	return address.Address{
		URL: "nats://127.0.0.1:4222", Token: strings.Repeat(fmt.Sprint(pid%10), 4000),
		PID: pid, Format: wire.Format, Version: "v1", Since: 1, ServerID: "S",
	}
}

func TestWriteThenRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "address")
	_, err := address.Read(path)
	require.ErrorIs(t, err, address.ErrNone)
	require.NoError(t, address.Write(path, sample(1)))
	got, err := address.Read(path)
	require.NoError(t, err)
	require.Equal(t, sample(1), got)

	// A file that anyone may read is replaced, not written into.
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, address.Write(path, sample(2)))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")
}

// Readers see one whole address or another. The control writes in place, and they
// see torn ones: so the test can tell.
func TestReadersNeverSeePart(t *testing.T) {
	t.Parallel()
	torn := func(write func(path string, a address.Address) error, rounds int) (torn int) {
		path := filepath.Join(t.TempDir(), "address")
		require.NoError(t, write(path, sample(1)))
		stop := make(chan struct{})
		var mu sync.Mutex
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for {
					a, err := address.Read(path)
					if err != nil || a != sample(a.PID) {
						mu.Lock()
						torn++
						mu.Unlock()
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for i := range rounds {
			if err := write(path, sample(i)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			seen := torn
			mu.Unlock()
			if seen > 0 {
				break
			}
		}
		close(stop)
		readers.Wait()
		return torn
	}
	require.Zero(t, torn(address.Write, longtest.Pick(60, 300)))
	require.NotZero(t, torn(func(path string, a address.Address) error {
		b, err := json.Marshal(a)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	}, 1_000_000), "the control")
}

func TestUnreadableAddress(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty": "", "torn": `{"url":"nats://127.0.0.1:1`, "no url": `{"pid":1}`, "not an object": `7`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "address")
			require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
			_, err := address.Read(path)
			require.ErrorContains(t, err, path)
			require.NotErrorIs(t, err, address.ErrNone)
		})
	}
	t.Run("a directory", func(t *testing.T) {
		dir := t.TempDir()
		_, err := address.Read(dir)
		require.ErrorContains(t, err, dir)
		require.Error(t, address.Write(dir, sample(1)))
		left, err := os.ReadDir(filepath.Dir(dir))
		require.NoError(t, err)
		for _, f := range left {
			require.NotContains(t, f.Name(), ".tmp")
		}
	})
	t.Run("newer format", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "address")
		a := sample(1)
		a.Format++
		require.NoError(t, address.Write(path, a))
		_, err := address.Read(path)
		var newer *event.NewerFormatError
		require.ErrorAs(t, err, &newer)
	})
}

func TestRemoveOnlyOnesOwn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "address")
	require.NoError(t, address.Remove(path, sample(1)), "none is there")
	require.NoError(t, address.Write(path, sample(2)))
	require.NoError(t, address.Remove(path, sample(1)))
	require.FileExists(t, path)
	other := sample(2)
	other.ServerID = "another host, with the same process id in another container"
	require.NoError(t, address.Remove(path, other))
	require.FileExists(t, path)
	require.NoError(t, address.Remove(path, sample(2)))
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, []byte("junk"), 0o600))
	require.NoError(t, address.Remove(path, sample(1)), "what it is nobody knows")
	require.FileExists(t, path)
}
