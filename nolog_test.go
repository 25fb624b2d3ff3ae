package durablestream_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/paths"
)

// A process that only reads finds no log, and leaves none.
func TestNoCreateInADirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	reading := durablestream.Config{Dir: dir, Command: durablestream.Command{NoCreate: true}}
	var none *durablestream.NoLogError
	_, err := durablestream.Open(t.Context(), reading)
	require.ErrorAs(t, err, &none)
	require.ErrorIs(t, err, client.ErrNoLog)
	require.Equal(t, durablestream.NoLogError{Dir: dir}, *none)
	require.NoDirExists(t, dir)

	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	_, err = d.Append(t.Context(), event.Event{Type: "a.b", StreamID: "s", Actor: "me"})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	d, err = durablestream.Open(t.Context(), reading)
	require.NoError(t, err, "nobody hosts, and this process does for the moment")
	position, err := d.Position(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, position)
	require.NoError(t, d.Close())

	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir)))
	_, err = durablestream.Open(t.Context(), reading)
	require.ErrorAs(t, err, &none)
	require.True(t, none.Mirror)
	require.ErrorContains(t, err, "dstream restore")
	require.NoDirExists(t, filepath.Join(dir, durablestream.HostDir))
}

// A path that is misspelt makes no directories.
func TestOnlyTheLastElementIsMade(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	_, err := durablestream.Open(t.Context(), durablestream.Config{Dir: filepath.Join(base, "porject", "x", ".opencode")})
	var typo *paths.ParentError
	require.ErrorAs(t, err, &typo)
	require.Equal(t, filepath.Join(base, "porject"), typo.Missing)
	left, err := os.ReadDir(base)
	require.NoError(t, err)
	require.Empty(t, left)
}

// In a program of somebody else's, root does not become another user: it is refused.
func TestRootInAnothersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a directory of another user")
	}
	project := t.TempDir()
	require.NoError(t, os.Chown(project, 4001, 4001))
	_, err := durablestream.Open(t.Context(), durablestream.Config{Dir: filepath.Join(project, ".opencode")})
	var root *paths.RootError
	require.ErrorAs(t, err, &root)
	require.Equal(t, 4001, root.Owner.UID)
	left, err := os.ReadDir(project)
	require.NoError(t, err)
	require.Empty(t, left)

	// Nor does it use what somebody has put into a directory of root's.
	dir := filepath.Join(t.TempDir(), ".opencode")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, 4001, 4001))
	_, err = durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.ErrorContains(t, err, "dubious ownership: "+dir+" belongs to user 4001")
}
