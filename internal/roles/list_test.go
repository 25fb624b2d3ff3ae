package roles_test

import (
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"durablestream/internal/roles"
)

func TestListIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "keys.json")
	_, err := roles.Read(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "dstream keys make")
	seed := filepath.Join(dir, "seed")
	k, err := roles.Make("planner", roles.Agent, seed)
	require.NoError(t, err)
	require.NoError(t, roles.Write(path, []roles.Key{k}))
	got, err := roles.Read(path)
	require.NoError(t, err)
	require.Equal(t, []roles.Key{k}, got)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing but the list")

	info, err := os.Stat(seed)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	pair, err := roles.ReadSeed(seed)
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	require.Equal(t, k.Public, public)
	_, err = roles.Make("planner", roles.Agent, seed)
	require.ErrorIs(t, err, fs.ErrExist)
}

func TestBadListsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, err := roles.Make("planner", roles.Agent, filepath.Join(dir, "seed"))
	require.NoError(t, err)
	seed, err := os.ReadFile(filepath.Join(dir, "seed"))
	require.NoError(t, err)
	for rule, text := range map[string]string{
		"must be JSON such as":                     "keys",
		`unknown field "secret"`:                   `{"keys":[],"secret":1}`,
		`key 1 (): the name "" must be`:            `{"keys":[{"role":"agent","public":"` + k.Public + `"}]}`,
		`key 1 (../x): the name "../x" must be`:    `{"keys":[{"name":"../x","role":"agent","public":"` + k.Public + `"}]}`,
		`role "" must be agent, operator or admin`: `{"keys":[{"name":"x","public":"` + k.Public + `"}]}`,
		"holds a seed: it is a secret":             `{"keys":[{"name":"x","role":"agent","public":"` + strings.TrimSpace(string(seed)) + `"}]}`,
		`public "UA" must be the public part`:      `{"keys":[{"name":"x","role":"agent","public":"UA"}]}`,
		"key 2 (x): the name is there twice":       `{"keys":[{"name":"x","role":"agent","public":"` + k.Public + `"},{"name":"x","role":"admin","public":"` + k.Public + `"}]}`,
		"key 2 (y): the key is that of x too":      `{"keys":[{"name":"x","role":"agent","public":"` + k.Public + `"},{"name":"y","role":"admin","public":"` + k.Public + `"}]}`,
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := roles.Read(path)
		var bad *roles.ListError
		require.ErrorAs(t, err, &bad, rule)
		require.ErrorContains(t, err, rule)
		require.ErrorContains(t, err, path)
		require.NotContains(t, err.Error(), strings.TrimSpace(string(seed)), "no secret in words")
	}
}

func TestBadSeedsAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seed")
	write := func(text string, mode fs.FileMode) {
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
	}
	_, err := roles.ReadSeed(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	write("SUAX", 0o600)
	_, err = roles.ReadSeed(path)
	require.ErrorContains(t, err, "holds no seed of an nkey")
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	write(string(seed), 0o600)
	_, err = roles.ReadSeed(path)
	require.ErrorContains(t, err, "no user's")
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o622} {
		write(string(seed), 0o600)
		require.NoError(t, os.Chmod(path, mode))
		_, err = roles.ReadSeed(path)
		require.ErrorContains(t, err, "can be read by others")
	}
}

// The client and the server must agree on what a key may do.
func TestPermissionsSayTheRole(t *testing.T) {
	t.Parallel()
	for _, r := range roles.Roles {
		p := roles.Of(roles.Key{Role: r, Public: "U"})
		require.Equal(t, r, p.Role())
		decides := p.MayPublish("guards.checkpoint.x")
		require.Equal(t, r != roles.Agent, decides)
		require.Equal(t, decides, p.MayPublish("events.checkpoint.approved.S"))
		require.True(t, p.MayPublish("events.checkpoint.cancel_requested.S"))
		require.Equal(t, r == roles.Admin, p.MayPublish("$JS.API.STREAM.DELETE.EVENTS"))
		require.False(t, r != roles.Admin && p.MayPublish("LOGJS.API.STREAM.DELETE.EVENTS"))
	}
	require.Empty(t, roles.Permissions{Publish: []string{"other.>"}}.Role(), "a role that is not ours")
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a", false}, {"a", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a.b.c", false},
		{"a.>", "a.b.c", true}, {"a.>", "a", false}, {">", "a", true}, {"*.b", "a.b", true}, {"*.b", "a.c", false},
	} {
		require.Equal(t, c.want, roles.Matches(c.pattern, c.subject), "%s %s", c.pattern, c.subject)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Error(t, roles.MakeTLS(dir, nil))
	require.NoError(t, roles.MakeTLS(dir, []string{"n1", "127.0.0.1"}))
	require.ErrorIs(t, roles.MakeTLS(dir, []string{"n1"}), fs.ErrExist)
	for file, mode := range map[string]fs.FileMode{roles.CAKeyFile: 0o600, roles.CertKey: 0o600, roles.CAFile: 0o644, roles.CertFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), file)
	}
	_, err := tls.LoadX509KeyPair(filepath.Join(dir, roles.CertFile), filepath.Join(dir, roles.CertKey))
	require.NoError(t, err)
	// Another certificate of the same authority.
	require.NoError(t, os.Remove(filepath.Join(dir, roles.CertFile)))
	require.NoError(t, os.Remove(filepath.Join(dir, roles.CertKey)))
	require.NoError(t, roles.MakeTLS(dir, []string{"n2"}))
	require.NoError(t, os.Remove(filepath.Join(dir, roles.CAKeyFile)))
	require.ErrorContains(t, roles.MakeTLS(dir, []string{"n3"}), "no key there to sign with")
}
