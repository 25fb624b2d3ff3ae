package broker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/internal/brokertest"
	"durablestream/internal/paths"
)

// The fence's own link is allowed, at its place and with its target only.
func TestCheckLinks(t *testing.T) {
	t.Parallel()
	brokertest.OnlyOurs(t, "the layout of a store")
	h := brokertest.Start(t)
	require.NoError(t, h.Broker.Stop(t.Context()))
	dir := h.Config.Dir
	require.NoError(t, broker.CheckLinks(dir))
	link := filepath.Join(dir, "store", "jetstream", "$G", "streams", "EVENTS")
	to, err := os.Readlink(link)
	require.NoError(t, err, "a host's Log lies behind a link")
	for name, c := range map[string]struct{ path, to string }{
		"another target inside":  {link, "../../../../store"},
		"another target outside": {link, "../../../../../log"},
		"an absolute target":     {link, filepath.Join(dir, "store", "log")},
		"another place":          {filepath.Join(filepath.Dir(link), "OTHER"), to},
		"behind the fence":       {filepath.Join(dir, "store", "log", "msgs", "2.blk"), "1.blk"},
	} {
		_ = os.Remove(c.path)
		require.NoError(t, os.Symlink(c.to, c.path), name)
		var found *paths.LinkError
		require.ErrorAs(t, broker.CheckLinks(dir), &found, name)
		require.Equal(t, c.path, found.Path, name)
		_, err := broker.Start(t.Context(), h.Config)
		require.ErrorAs(t, err, &found, name)
		require.NoError(t, os.Remove(c.path))
		require.NoError(t, os.RemoveAll(link))
		require.NoError(t, os.Symlink(to, link))
	}
	h.Boot(t)
}
