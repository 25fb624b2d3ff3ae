package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/engine"
	"durablestream/internal/faults"
)

// A changed byte in the engine's state file is no damage: the engine writes the file anew
// from the blocks.
func TestDoctorChangedStateFile(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := command(t, dir, "query")
	msgs, err := (&faults.Node{Name: "host", Dir: dir}).Blocks()
	require.NoError(t, err)
	path := filepath.Join(msgs, engine.StateFile)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, i := range []int{0, 1, 2, 4, 16, 17, len(raw) / 2, len(raw) - 12, len(raw) - 1} {
		changed := append([]byte(nil), raw...)
		changed[i] ^= 0x40
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		wellAgain(t, dir)
		require.Equal(t, was, command(t, dir, "query"), "byte %d", i)
		wellAgain(t, dir)
	}
}
