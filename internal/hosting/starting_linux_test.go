package hosting_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
)

// While the host's engine starts, which takes long here since it reads a pipe, joining
// processes report that, and wait as configured.
func TestOpenWhileTheHostIsStarting(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	other := filepath.Join(dir, durablestream.HostDir, broker.StoreDir, "jetstream", "$G", "streams", "OTHER")
	require.NoError(t, os.MkdirAll(other, 0o700))
	pipe := filepath.Join(other, "meta.inf")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))

	type opened struct {
		d   *durablestream.DurableStream
		err error
	}
	open := func(ctx context.Context, cfg durablestream.Config) <-chan opened {
		out := make(chan opened, 1)
		cfg.Dir = dir
		go func() {
			d, err := durablestream.Open(ctx, cfg)
			out <- opened{d, err}
		}()
		return out
	}
	brief, cancel := context.WithTimeout(t.Context(), time.Millisecond) // shorter than the start
	defer cancel()
	host := open(brief, durablestream.Config{})
	require.Eventually(t, func() bool { return broker.Starting(filepath.Join(dir, durablestream.HostDir)) != nil }, 10*time.Second, time.Millisecond)

	// A caller with a deadline gets an error at the deadline that says what the host
	// does.
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	got := <-open(short, durablestream.Config{})
	var starting *broker.StartingError
	require.ErrorAs(t, got.err, &starting)
	require.ErrorIs(t, got.err, context.DeadlineExceeded)
	require.ErrorContains(t, got.err, "is starting")

	// A caller that waits continues to wait, and reports the progress again.
	var said lines
	patient := open(t.Context(), durablestream.Config{Command: durablestream.Command{Wait: 2 * time.Second}, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	require.Eventually(t, func() bool { return said.count("is starting") > 1 }, 30*time.Second, time.Millisecond)

	f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	require.NoError(t, errors.Join(err, os.Remove(pipe), f.Close()))
	hosting := <-host
	require.NoError(t, hosting.err)
	defer hosting.d.Close()
	require.True(t, hosting.d.Hosting())
	got = <-patient
	require.NoError(t, got.err)
	defer got.d.Close()
	require.False(t, got.d.Hosting())
	_, err = got.d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a"})
	require.NoError(t, err)
}

// lines is what a logger has said.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}
