package broker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Each node of a cluster finds events in its own copy of the Log, and says who it is; not
// beyond what is stored, and nothing of another Log.
func TestClusterFinds(t *testing.T) {
	t.Parallel()
	nodes := upAll(t, clusterOf(t, 3))
	const n = 20
	for i := range n {
		_, err := publish(t.Context(), nodes[0], i+1)
		require.NoError(t, err)
	}
	s, err := nodes[0].js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	q := wire.Find{Log: s.CachedInfo().Created.UnixNano(), After: 5, Until: n, Subjects: []string{wire.AllEvents}}
	for _, b := range nodes {
		var found wire.Found
		require.Eventually(t, func() bool { // a replica writes later, and looks once a second for files
			var err error
			found, err = wire.DecodeFound(b.finder.Answer(q))
			require.NoError(t, err)
			return found.Through == n
		}, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, b.cfg.Name, found.Node)
		require.Len(t, found.Messages, n-5)
		far := q
		far.Until = 1000
		found, err := wire.DecodeFound(b.finder.Answer(far))
		require.NoError(t, err)
		require.Equal(t, event.Sequence(n), found.Through)
		require.False(t, found.More)
		other := q
		other.Log++
		found, err = wire.DecodeFound(b.finder.Answer(other))
		require.NoError(t, err)
		require.Equal(t, q.After, found.Through)
		require.Empty(t, found.Messages)
	}
	m, err := nodes[1].admin.Request(wire.FindSubject, q.Encode(), 5*time.Second)
	require.NoError(t, err)
	found, err := wire.DecodeFound(m)
	require.NoError(t, err)
	require.EqualValues(t, n, found.Through)
}
