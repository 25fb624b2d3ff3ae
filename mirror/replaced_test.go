package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// unprotected makes the Log anew, so that messages can be deleted from it.
func unprotected(t *testing.T, h *brokertest.Host) jetstream.Stream {
	t.Helper()
	js := h.Admin(t)
	require.NoError(t, js.DeleteStream(t.Context(), wire.LogName))
	cfg := wire.LogConfig(1, 0)
	cfg.DenyDelete = false
	return brokertest.CreateLog(t, js, cfg)
}

func TestGapInLogStopsTheMirror(t *testing.T) {
	brokertest.OnlyOurs(t, "on a cluster a reader that meets a gap tries other replicas first, and finds that the Log was made anew")
	t.Parallel()
	h := brokertest.Start(t)
	s := unprotected(t, h)
	cfg := configOf(t, h)
	appendAll(t, h.Client, mixed(6)...)
	require.NoError(t, s.DeleteMsg(t.Context(), 4))
	var gap *GapError
	require.ErrorAs(t, Run(t.Context(), cfg), &gap)
	require.Equal(t, GapError{3, 5}, *gap)
	require.Equal(t, 3, strings.Count(content(t, cfg.Dir), "\n"), "all before the gap is written")
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.ErrorAs(t, report.Problem, &gap)

	// The message of the last line is gone.
	require.NoError(t, s.DeleteMsg(t.Context(), 3))
	refused(t, cfg, &gap)
	require.Equal(t, GapError{2, 5}, *gap)

	// The beginning is gone: the Log was not made to begin there.
	require.NoError(t, s.DeleteMsg(t.Context(), 1))
	require.NoError(t, s.DeleteMsg(t.Context(), 2))
	cfg.Dir = t.TempDir()
	require.ErrorAs(t, Run(t.Context(), cfg), &gap)
	require.Equal(t, GapError{0, 5}, *gap)
}

// A Log that takes the place of another while the mirror runs is noticed, although
// the feed goes on as if nothing had happened.
func TestLogReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"a full batch": 1, "a batch that waits for more": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			cfg := configOf(t, h)
			cfg.batchBytes = size
			appendAll(t, h.Client, mixed(2)...)
			r := start(t, cfg)
			r.reach(t, 2)
			unprotected(t, h)
			appendAll(t, h.Client, mixed(4)...)
			err := r.wait(t)
			var foreign *ForeignError
			if ahead := new(AheadError); !errors.As(err, &ahead) { // it was seen before its second event
				require.ErrorAs(t, err, &foreign)
			}
			require.Equal(t, 2, strings.Count(content(t, cfg.Dir), "\n"))
		})
	}
}

// What is asked about a full batch while the one before is written counts for it.
func TestFullBatchOfAnotherLogIsNotWritten(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{nil, errReplaced} {
		cfg := Config{Dir: t.TempDir(), batchBytes: 1}.withDefaults()
		r := newRunner(cfg)
		var err error
		r.w, err = openWriter(cfg, ends{dir: cfg.Dir})
		require.NoError(t, err)
		defer r.w.close()
		r.g = newGather(cfg, 0, origin)
		var asked atomic.Uint64
		r.g.ask = func(_ context.Context, at event.Sequence) error {
			asked.Store(uint64(at))
			return answer
		}
		e := event.Event{ID: "e", Type: "a.b", StreamID: "s", CorrelationID: "c", Actor: "a", Payload: json.RawMessage("{}")}
		m := wire.Encode(event.Recorded{Event: e})
		require.NoError(t, r.g.add(t.Context(), client.Message{Subject: m.Subject, Data: m.Data, Seq: 7}))
		require.ErrorIs(t, r.flush(t.Context()), answer)
		require.EqualValues(t, 7, asked.Load())
		require.Equal(t, answer == nil, content(t, cfg.Dir) != "")
	}
}
