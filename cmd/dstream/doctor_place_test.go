package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/doctor"
	"durablestream/internal/fence"
)

// A Log whose link or configuration has gone is found, and put back, with all events.
func TestDoctorLogOutOfPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, link, data string)
		words string
	}{
		"the link": {func(t *testing.T, link, _ string) { require.NoError(t, os.Remove(link)) }, "the link to the Log has gone"},
		"the configuration": {func(t *testing.T, _, data string) {
			require.NoError(t, os.Remove(filepath.Join(data, "meta.inf")))
		}, "configuration has gone"},
		"both": {func(t *testing.T, link, data string) {
			require.NoError(t, os.Remove(filepath.Join(data, "meta.inf")))
			require.NoError(t, os.Remove(link))
		}, "the link to the Log has gone"},
		"a copy that followed the link": {func(t *testing.T, link, data string) {
			require.NoError(t, os.Remove(link))
			require.NoError(t, os.CopyFS(link, os.DirFS(data)))
		}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := ended(t, 5)
			was := command(t, dir, "query")
			store := filepath.Join(dir, durablestream.HostDir, broker.StoreDir)
			link := filepath.Dir(blocks.Dir(store, "$G"))
			c.spoil(t, link, filepath.Join(store, fence.DataDir))
			before := files(t, store)
			status, out, found := doctorSays(t, dir)
			require.Equal(t, exitFailed, status)
			require.Equal(t, doctor.FoundPlace, found[0].Name, out)
			require.Contains(t, found[0].What, c.words)
			require.Equal(t, before, files(t, store), "a look changes nothing")
			_, out, found = doctorSays(t, dir, "--fix", "--yes")
			require.True(t, found[0].Fixed, out)
			wellAgain(t, dir)
			require.Equal(t, was, command(t, dir, "query"))
		})
	}
}

// A Log that has gone is told as that, by the doctor and by whoever opens it.
func TestDoctorLogHasGone(t *testing.T) {
	t.Parallel()
	dir := ended(t, 5)
	store := filepath.Join(dir, durablestream.HostDir, broker.StoreDir)
	require.NoError(t, os.RemoveAll(filepath.Join(store, fence.DataDir)))
	status, out, found := doctorSays(t, dir)
	require.Equal(t, exitFailed, status)
	require.Equal(t, []string{doctor.FoundPlace}, names(found), out)
	require.Contains(t, found[0].What, "dstream restore")
	status, _, words := dstream(t, "--dir", dir, "query")
	require.Equal(t, exitFailed, status)
	require.Contains(t, words, "dstream restore")
}
