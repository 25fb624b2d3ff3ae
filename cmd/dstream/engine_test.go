package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/blocks"
	"durablestream/internal/doctor"
	"durablestream/internal/faults"
)

// A program with a nats-server whose files it does not know takes appends and answers
// queries as ever. It leaves the files alone, and says so.
func TestUnknownEngine(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := command(t, dir, "query")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir, broker.StoreDir, broker.IndexDir)))
	bin, err := faults.Build(t.Context(), t.TempDir(), "-ldflags", "-s -w -X durablestream/internal/engine.Pretend=2.99.0")
	require.NoError(t, err)
	n := faults.NewHost(bin, dir).Nodes[0]
	// What a program that knows the files calls damaged.
	msgs, err := n.Blocks()
	require.NoError(t, err)
	note := blocks.ReadChecked(checkedPath(dir), msgs)
	require.EqualValues(t, 30, note.Last)
	note.Last = 60
	raw, err := note.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(checkedPath(dir), raw, 0o600))
	_, _, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundStore}, names(found))

	before := files(t, dir)
	out, code := n.Command(t.Context(), "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "this program knows the store files of nats-server ")
	require.Contains(t, out, "not those of 2.99.0")
	require.NotContains(t, out, "damaged")
	require.NotContains(t, out, "nothing is wrong")
	require.Equal(t, before, files(t, dir))

	require.NoError(t, n.Start())
	t.Cleanup(n.Kill)
	require.Eventually(t, func() bool {
		out, code = n.Command(t.Context(), "status", "--json")
		return code == 0 && strings.Contains(out, `"running": true`)
	}, 30*time.Second, 50*time.Millisecond, "%s", n.Words())
	var st struct{ Host durablestream.HostStatus }
	require.NoError(t, json.Unmarshal([]byte(out), &st), out)
	require.Contains(t, st.Host.Unchecked, "not those of 2.99.0")
	require.Zero(t, st.Host.Checked)
	require.Zero(t, st.Host.Indexed)
	require.Empty(t, st.Host.Damaged)
	out, code = n.Command(t.Context(), "status")
	require.Zero(t, code, out)
	require.Contains(t, out, "not checked for damage: this program knows the store files of")
	require.Contains(t, out, "alarms     none")
	require.Contains(t, n.Words(), "the store is not checked")

	out, code = n.Command(t.Context(), "append", "a.b", "--stream", "x", "--actor", "me")
	require.Zero(t, code, out)
	out, code = n.Command(t.Context(), "query", "--stream", "many", "--limit", "3")
	require.Zero(t, code, out)
	require.Equal(t, strings.Join(strings.SplitAfter(was, "\n")[:3], ""), out)
	n.Signal(syscall.SIGTERM)
	require.Eventually(t, func() bool { return !n.Running() }, 30*time.Second, 10*time.Millisecond)
	have, err := os.ReadFile(checkedPath(dir))
	require.NoError(t, err)
	require.Equal(t, raw, have)
	require.NoDirExists(t, filepath.Join(dir, durablestream.HostDir, broker.StoreDir, broker.IndexDir))

	require.NoError(t, os.Remove(checkedPath(dir)))
	wellAgain(t, dir)
	require.True(t, strings.HasPrefix(command(t, dir, "query"), was))
}
