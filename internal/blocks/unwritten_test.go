package blocks

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/wire"
)

// stateOf makes a state file of an engine that stopped; each block is its index, first and
// last Sequence, and all of its records are there.
func stateOf(t *testing.T, dir string, blocks ...[3]uint64) {
	t.Helper()
	newest, messages := blocks[len(blocks)-1], uint64(0)
	for _, b := range blocks {
		messages += b[2] - b[1] + 1
	}
	raw := []byte{11, 4}
	number := func(ns ...uint64) {
		for _, n := range ns {
			raw = binary.AppendUvarint(raw, n)
		}
	}
	number(messages, 0, blocks[0][1], 0, newest[2], 0, 0, uint64(len(blocks)))
	for _, b := range blocks {
		number(b[0], 0, b[1], 0, b[2], 0, 0, 0, 0)
	}
	number(newest[0])
	raw = append(raw, make([]byte, engine.SumSize)...)
	sum, err := hex.DecodeString(engine.SumOf(wire.LogName, raw))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, engine.StateFile), append(raw, sum...), 0o600))
	state, err := engine.ReadState(wire.LogName, append(raw, sum...))
	require.NoError(t, err)
	require.EqualValues(t, newest[2], state.Last)
}

// An empty block at the end: the engine counts a message that it could not write, or the Log
// is empty, and ends before it begins.
func TestLastWrittenWithAnEmptyBlock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first  uint64 // that the Log begins with, by its configuration
		blocks [][3]uint64
		last   event.Sequence
		kept   bool // the state file, at the engine's start
	}{
		"an empty Log":                               {0, [][3]uint64{{1, 1, 0}}, 0, true},
		"and its first message was not written":      {0, [][3]uint64{{1, 2, 1}}, 0, false},
		"an empty Log that begins at 5001":           {5001, [][3]uint64{{1, 5001, 5000}}, 5000, true},
		"and that one's first was not written":       {5001, [][3]uint64{{1, 5002, 5001}}, 5000, false},
		"the first message of the second block":      {0, [][3]uint64{{1, 1, 10}, {2, 12, 11}}, 10, false},
		"the second block is empty, and counts none": {0, [][3]uint64{{1, 1, 10}, {2, 11, 10}}, 10, true},
		"both are empty":                             {0, [][3]uint64{{1, 1, 0}, {2, 1, 0}}, 0, true},
		"both are, and a message was not written":    {0, [][3]uint64{{1, 1, 0}, {2, 2, 1}}, 0, false},
		"the records of the only block are gone":     {0, [][3]uint64{{1, 1, 10}}, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "msgs")
			require.NoError(t, os.Mkdir(dir, 0o700))
			if c.first > 0 {
				cfg := fmt.Appendf(nil, `{"name":%q,"first_seq":%d}`, wire.LogName, c.first)
				require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), engine.ConfigFile), cfg, 0o600))
			}
			for i, b := range c.blocks {
				var raw []byte
				for seq := b[1]; seq <= b[2] && i < len(c.blocks)-1; seq++ {
					raw = append(raw, stored(event.Sequence(seq)).encode(uint32(b[0]))...)
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.blk", b[0])), raw, 0o600))
			}
			stateOf(t, dir, c.blocks...)
			last, current := LastWritten(dir)
			require.Equal(t, c.last, last)
			require.False(t, current)
			rep, err := Check(dir, Begins(dir), last)
			require.NoError(t, err)
			for _, d := range rep.Damage {
				require.LessOrEqual(t, d.From, d.To)
				require.LessOrEqual(t, d.To, c.last)
			}
			require.NoError(t, ForgetUnwritten(dir))
			_, err = os.Stat(filepath.Join(dir, engine.StateFile))
			require.Equal(t, c.kept, err == nil)
		})
	}
}

// Whatever is demanded of blocks, no run of what is missing ends before it begins, or behind
// what is demanded or there.
func TestJoinMakesNoRangeBackwards(t *testing.T) {
	t.Parallel()
	empty, one := Block{File: File{Index: 1}}, Block{File: File{Index: 2}, First: 5, Last: 7, Records: 3}
	for _, found := range [][]Block{nil, {empty}, {one}, {empty, one}, {one, empty}} {
		for first := range event.Sequence(10) {
			for last := range event.Sequence(10) {
				for _, d := range Join(found, first, last).Damage {
					require.LessOrEqual(t, d.From, d.To, "%v from %d to %d", found, first, last)
					require.LessOrEqual(t, d.To, max(last, 7))
				}
			}
		}
	}
}

// A repair ends when it is told to, however much is missing.
func TestRepairEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	done, lost, err := Repair(ctx, dir, "", t.TempDir(), 1, 1<<62, Known{Record: func(event.Sequence) (Record, bool) {
		if asked++; asked == 10 {
			cancel()
		}
		return Record{}, false
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, done)
	require.Empty(t, lost)
	require.Equal(t, 10, asked)
}
