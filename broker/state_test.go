package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// grown hosts the log in dir, appends n events, and stops. It returns the path of the
// engine's state file.
func grown(t *testing.T, dir string, n int) string {
	t.Helper()
	hosted(t, dir, func(b *broker.Broker, js jetstream.JetStream) {
		for i := range n {
			e := newEvent(fmt.Sprintf(`{"i":%d}`, i))
			e.ID = uuid.NewString()
			_, err := js.PublishMsg(t.Context(), wire.Encode(event.Recorded{Event: e}))
			require.NoError(t, err)
		}
	})
	return filepath.Join(blocks.Dir(filepath.Join(dir, broker.StoreDir), server.DEFAULT_GLOBAL_ACCOUNT), engine.StateFile)
}

// hosted hosts the log in dir while f runs.
func hosted(t *testing.T, dir string, f func(*broker.Broker, jetstream.JetStream)) {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Config{Dir: dir, DiskFloor: -1})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Stop(t.Context())) }()
	nc, err := b.Connect()
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	f(b, js)
}

// whole demands that a host starts in dir, finds no damage, and has every message up to n.
func whole(t *testing.T, dir string, n int) {
	t.Helper()
	hosted(t, dir, func(b *broker.Broker, js jetstream.JetStream) {
		require.Empty(t, b.Checked().Damage)
		s, err := js.Stream(t.Context(), wire.LogName)
		require.NoError(t, err)
		require.EqualValues(t, n, s.CachedInfo().State.Msgs)
		require.Zero(t, s.CachedInfo().State.NumDeleted)
		for seq := range n {
			_, err := s.GetMsg(t.Context(), uint64(seq)+1)
			require.NoError(t, err)
		}
	})
}

// A state file of the engine with any byte changed is as good as none.
func TestStateFileWithAChangedByte(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), 30
	path := grown(t, dir, n)
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	last, current := blocks.LastWritten(filepath.Dir(path))
	require.EqualValues(t, n, last)
	require.True(t, current)
	for i := range was {
		raw := append([]byte(nil), was...)
		raw[i] ^= 0x40
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		last, current := blocks.LastWritten(filepath.Dir(path))
		require.Zero(t, last, "byte %d", i)
		require.False(t, current, "byte %d", i)
		if i < 32 || i%16 == 0 || i >= len(was)-2*engine.SumSize-2 {
			whole(t, dir, n)
		}
	}
}

// So is one that is cut off, empty, of another stream, or of a version to come; and one
// from before the last appends.
func TestStateFileThatTheEngineDoesNotUse(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), 30
	path := grown(t, dir, n)
	older, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, path, grown(t, dir, n))
	n *= 2
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	last, current := blocks.LastWritten(filepath.Dir(path))
	require.EqualValues(t, n, last)
	require.True(t, current)
	for name, raw := range map[string][]byte{
		"older":     older,
		"cut off":   was[:len(was)/2],
		"empty":     {},
		"zeros":     make([]byte, len(was)),
		"no JSON":   []byte(`{"something": "that somebody put there, longer than what is looked at"}`),
		"too short": was[:31],
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, raw, 0o600))
			last, current := blocks.LastWritten(filepath.Dir(path))
			require.False(t, current)
			require.Contains(t, []event.Sequence{0, event.Sequence(n / 2)}, last)
			whole(t, dir, n)
		})
	}
	t.Run("a directory", func(t *testing.T) {
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Mkdir(path, 0o700))
		whole(t, dir, n)
		require.NoError(t, os.Remove(path))
	})
}

// A state file that says more than the blocks hold proves that the end is gone: nobody
// hosts that without being told.
func TestStateFileNewerThanTheBlocks(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), 30
	path := grown(t, dir, n)
	block := filepath.Join(filepath.Dir(path), "1.blk")
	short, err := os.ReadFile(block)
	require.NoError(t, err)
	grown(t, dir, n)
	require.NoError(t, os.WriteFile(block, short, 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, broker.StoreDir, broker.CheckedFile)))
	_, err = start(t, broker.Config{Dir: dir, DiskFloor: -1})
	var damaged *broker.DamagedError
	require.ErrorAs(t, err, &damaged)
	require.ErrorContains(t, err, "31 to 60")
}

// The host's own notes with any byte changed say nothing either.
func TestCheckedFileWithAChangedByte(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), 30
	msgs := filepath.Dir(grown(t, dir, n))
	path := filepath.Join(dir, broker.StoreDir, broker.CheckedFile)
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	right := blocks.ReadChecked(path, msgs)
	require.EqualValues(t, n, right.Last)
	require.Len(t, right.Blocks, 1)
	for i := range was {
		for _, bit := range []byte{1, 2, 8} { // each leaves digits digits
			raw := append([]byte(nil), was...)
			raw[i] ^= bit
			require.NoError(t, os.WriteFile(path, raw, 0o600))
			c := blocks.ReadChecked(path, msgs)
			c.Sum = right.Sum // without a checksum it is of an older program
			require.Contains(t, []blocks.Checked{right, {Sum: right.Sum}}, c, "byte %d: %s", i, raw)
		}
		if i%16 == 0 {
			whole(t, dir, n)
		}
	}
}

// A Log without a message ends before it begins, and nothing of it is missed.
func TestStateFileOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	for _, first := range []event.Sequence{0, 5001} {
		t.Run(first.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			hosted(t, dir, func(b *broker.Broker, _ jetstream.JetStream) {
				if first > 0 {
					require.NoError(t, b.RecreateLog(t.Context(), first))
				}
			})
			msgs := blocks.Dir(filepath.Join(dir, broker.StoreDir), server.DEFAULT_GLOBAL_ACCOUNT)
			last, _ := blocks.LastWritten(msgs)
			require.Equal(t, max(1, first)-1, last)
			rep, err := blocks.Check(msgs, blocks.Begins(msgs), last)
			require.NoError(t, err)
			require.Empty(t, rep.Damage)
			require.NoError(t, blocks.ForgetUnwritten(msgs))
			require.FileExists(t, filepath.Join(msgs, engine.StateFile))
			whole(t, dir, 0)
		})
	}
}
