package hosting_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/paths"
	"durablestream/internal/roles"
)

// A host reads its list again on request, and keeps the old keys if it cannot read the
// new list.
func TestReloadKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, seed := filepath.Join(dir, "keys.json"), func(name string) string { return filepath.Join(dir, name) }
	one, err := roles.Make("one", roles.Agent, seed("one"))
	require.NoError(t, err)
	two, err := roles.Make("two", roles.Operator, seed("two"))
	require.NoError(t, err)
	require.NoError(t, roles.Write(list, nil))
	cfg := durablestream.Config{Dir: filepath.Join(dir, "log"), Serve: durablestream.Serve{KeyFile: list}}
	_, err = durablestream.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "holds no key")
	require.NoError(t, roles.Write(list, []roles.Key{one}))
	host, err := durablestream.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	require.True(t, host.Hosting())
	require.Equal(t, client.RoleNone, host.Admin().Role(), "the host's own connection may do everything")

	join := func(name string) (*durablestream.DurableStream, error) {
		return durablestream.Open(t.Context(), durablestream.Config{Dir: cfg.Dir, NKey: seed(name)})
	}
	d, err := join("one")
	require.NoError(t, err)
	require.Equal(t, client.RoleAgent, d.Admin().Role())
	require.NoError(t, d.Admin().ReloadKeys(), "nothing to do for who does not host")
	_, err = join("two")
	require.ErrorIs(t, err, client.ErrKeyUnknown)
	require.NoError(t, roles.Write(list, []roles.Key{one, two}))
	require.NoError(t, host.Admin().ReloadKeys())
	d2, err := join("two")
	require.NoError(t, err)
	require.Equal(t, client.RoleOperator, d2.Admin().Role())
	repository(t, dir)
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.Rename(list, other))
	require.NoError(t, os.Symlink(other, list))
	var link *paths.LinkError
	require.ErrorAs(t, host.Admin().ReloadKeys(), &link, "a pull has brought it")
	require.NoError(t, os.Remove(list))
	require.NoError(t, os.WriteFile(list, []byte("{"), 0o600))
	require.ErrorContains(t, host.Admin().ReloadKeys(), list)
	_, err = d2.Position(t.Context())
	require.NoError(t, err)

	// The last key is disconnected too when it is removed; the host continues, and lets
	// keys in again.
	require.NoError(t, host.Admin().RevokeKeys())
	require.Eventually(t, func() bool { return !d.Admin().Conn().IsConnected() && !d2.Admin().Conn().IsConnected() }, 5*time.Second, time.Millisecond)
	_, err = join("one")
	require.ErrorIs(t, err, client.ErrKeyUnknown)
	_, err = host.Position(t.Context())
	require.NoError(t, err)
	require.NoError(t, roles.Write(list, []roles.Key{two}))
	require.NoError(t, host.Admin().ReloadKeys())
	_, err = d2.Position(t.Context())
	require.NoError(t, err)
	require.False(t, d.Admin().Conn().IsConnected(), "its key stays revoked")
	require.NoError(t, d2.Close())
	require.NoError(t, d.Close())
}

// repository makes a directory what git takes for one.
func repository(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"objects", "refs"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, ".git", name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
}
