package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A timestamp that is not in milliseconds is refused whichever way a new event comes, and
// stored as it is where an import brings it.
func TestTimestampsThatAreNotMilliseconds(t *testing.T) {
	t.Parallel()
	dir := rpcDir(t)
	p := startRPC(t, dir)
	for ms, words := range map[string]string{"1796046000": "seconds", "1796046000000000": "microseconds", "9223372036854775807": "nanoseconds"} {
		status, _, out := dstream(t, "--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a", "--timestamp", ms)
		require.Equal(t, exitUsage, status, out)
		require.Contains(t, out, words)
		require.Contains(t, out, ms)

		line := fmt.Sprintf(`{"id":"e%[1]s","type":"task.created","stream_id":"s","correlation_id":"c","actor":"a","timestamp":%[1]s,"payload":{}}`, ms)
		path := filepath.Join(t.TempDir(), "events.jsonl")
		require.NoError(t, os.WriteFile(path, []byte(line+"\n"), 0o600))
		status, _, out = dstream(t, "--dir", dir, "append", "--jsonl", path)
		require.NotZero(t, status)
		require.Contains(t, out, words)

		var e object
		for _, c := range []struct{ method, member string }{{"append", "event"}, {"appendBatch", "events"}} {
			e = object{"type": "task.created", "stream_id": "s", "actor": "a", "timestamp": json.Number(ms)}
			params := object{c.member: any(e)}
			if c.member == "events" {
				params[c.member] = []object{e}
			}
			name, data := p.refused(c.method, params)
			require.Equal(t, "invalid", name)
			require.Equal(t, "timestamp", data["field"])
			require.Equal(t, ms, data["value"])
			require.Contains(t, data["rule"], words)
		}
	}
	_, out, _ := dstream(t, "--dir", dir, "query")
	require.Empty(t, out)

	old := filepath.Join(t.TempDir(), "durable_stream.jsonl")
	require.NoError(t, os.WriteFile(old, []byte(
		`{"id":"e1","type":"task.created","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1796046000,"payload":{}}`+"\n"+
			`{"id":"e2","type":"task.created","stream_id":"s","correlation_id":"c","actor":"a","timestamp":9223372036854775807,"payload":{}}`+"\n"), 0o600))
	status, _, words := dstream(t, "--dir", dir, "import", old)
	require.Zero(t, status, words)
	_, out, _ = dstream(t, "--dir", dir, "query")
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 2)
	require.Contains(t, out, `"timestamp":1796046000,`)
	require.Contains(t, out, `"timestamp":9223372036854775807,`)
}
