package paths

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMakeHostDir(t *testing.T) {
	t.Parallel()
	for had, want := range map[string]string{"-": "*\n", "": "*\n", "*\n!keep\n": "*\n!keep\n"} {
		dir := filepath.Join(t.TempDir(), "host")
		if had != "-" {
			require.NoError(t, os.Mkdir(dir, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(had), 0o600))
		}
		require.NoError(t, MakeHostDir(dir))
		got, err := os.ReadFile(filepath.Join(dir, ".gitignore"))
		require.NoError(t, err)
		require.Equal(t, want, string(got), "%q", had)
	}
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	require.NoError(t, os.Symlink(to, filepath.Join(dir, ".gitignore")))
	var link *LinkError
	require.ErrorAs(t, MakeHostDir(dir), &link)
	require.NoFileExists(t, to)
}

func TestIgnoreSecrets(t *testing.T) {
	t.Parallel()
	for had, want := range map[string]string{
		"": "*.nk\n", "*\n": "*\n", "*.nk": "*.nk", "a": "a\n*.nk\n", "*.nk\n!*\n": "*.nk\n!*\n*.nk\n",
	} {
		dir := t.TempDir()
		repository(t, dir)
		path := filepath.Join(dir, ".gitignore")
		if had != "" {
			require.NoError(t, os.WriteFile(path, []byte(had), 0o600))
		}
		for range 2 {
			require.NoError(t, IgnoreSecrets(dir, "*.nk"))
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, want, string(got), "%q", had)
		}
	}
	dir := t.TempDir()
	require.NoError(t, IgnoreSecrets(dir, "*.nk"))
	require.NoFileExists(t, filepath.Join(dir, ".gitignore"), "no work tree")
}

func TestNoProjectLink(t *testing.T) {
	t.Parallel()
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(base, name) }
	repository(t, at("tree"))
	repository(t, at("other")) // which a link of tree leads to
	require.NoError(t, os.MkdirAll(at("plain/log/durable_stream"), 0o755))
	for link, to := range map[string]string{
		"tree/in": "../other", "tree/.opencode": "../plain/log", "plain/keys.json": "there",
		"plain/log/durable_stream/keys": "../../..", "name": "plain",
	} {
		require.NoError(t, os.Symlink(to, at(link)))
	}
	for _, c := range []struct{ dir, path, link string }{
		{"tree/log", "tree/keys.json", ""},
		{"tree/log", "tree/none/keys.json", ""},
		{"tree/log", "tree/in", "tree/in"},
		{"tree/log", "tree/in/keys.json", "tree/in"},
		{"tree/log", "other/keys.json", ""},
		{"tree/.opencode", "tree/.opencode/durable_stream/keys.json", "tree/.opencode"},
		{"plain/log", "plain/keys.json", ""}, // neither in a log nor in a work tree
		{"plain/log", "plain/log/durable_stream/keys.json", ""},
		{"plain/log", "plain/log/durable_stream/keys/a.nk", "plain/log/durable_stream/keys"},
		{"name/log", "name/log/durable_stream/keys/a.nk", "name/log/durable_stream/keys"}, // a link above
		{"name/log", "plain/log/durable_stream/keys/a.nk", "plain/log/durable_stream/keys"},
		{"name/log", "name/log/durable_stream/keys.json", ""},
	} {
		err := NoProjectLink(at(c.dir), at(c.path))
		if c.link == "" {
			require.NoError(t, err, c)
			continue
		}
		var link *LinkError
		require.ErrorAs(t, err, &link, c)
		require.Equal(t, at(c.link), link.Path)
	}
}
