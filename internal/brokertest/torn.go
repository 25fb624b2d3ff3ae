package brokertest

import (
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/internal/wire"
)

// StartLone is Start with one nats-server that is not ours, whatever ServerVariable says:
// its store can be limited.
func StartLone(t testing.TB) *Host {
	t.Helper()
	dir := t.TempDir()
	h := &Host{
		Config: broker.Config{Dir: dir},
		plain:  &plain{nodes: []*node{{opts: plainOptions(dir, "lone", freePorts(t, 1)[0])}}},
	}
	t.Cleanup(h.plain.stop)
	h.Boot(t)
	h.Conn = h.Connect(t)
	h.Client = h.NewClient(t, client.Config{})
	return h
}

// Room lets a host of StartLone store so many bytes more until it is restarted. The engine
// looks at that for each message of a batch that it commits: the batch that exceeds it is
// stored in part, as on a disk that runs full, and completed by the restart.
func (h *Host) Room(t testing.TB, bytes int64) {
	t.Helper()
	require.Len(t, h.plain.nodes, 1)
	s, err := h.Admin(t).Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	require.NoError(t, h.plain.nodes[0].server.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: int64(s.CachedInfo().State.Bytes) + bytes, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}}))
}

// Staged reports that the engine of a host of StartLone keeps a batch that it has not
// stored as a whole.
func (h *Host) Staged(t testing.TB) bool {
	t.Helper()
	dir := h.plain.nodes[0].opts.StoreDir + "/jetstream/" + server.DEFAULT_GLOBAL_ACCOUNT + "/streams/" + wire.LogName + "/batches"
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}
