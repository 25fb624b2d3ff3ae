package hosting

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// A host that ends serves processes that have just joined until they are gone; other
// processes do not keep it.
func TestHostLingersForTheYoung(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: filepath.Join(t.TempDir(), ".opencode"), Logger: slog.New(slog.DiscardHandler)}
	cfg.HostDir = filepath.Join(cfg.Dir, "durable_stream")
	joinOnly := cfg
	joinOnly.JoinOnly = true
	host, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	now := host.now()
	now.linger(time.Hour, time.Hour) // its own connections are not those of others

	joined, err := Open(t.Context(), joinOnly)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		now.linger(time.Hour, time.Hour)
	}()
	late, err := Open(t.Context(), joinOnly)
	require.NoError(t, err)
	for _, d := range []*Process{joined, late} {
		_, err = d.Client.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
		require.NoError(t, err)
		select {
		case <-ended:
			t.Fatal("the host did not wait for a process that had just joined")
		default:
		}
		require.NoError(t, d.Close())
	}
	<-ended

	old, err := Open(t.Context(), joinOnly)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, old.Close()) })
	now.linger(time.Hour, time.Nanosecond)  // for one that has been here for long it does not
	now.linger(time.Millisecond, time.Hour) // nor for longer than it may
}
