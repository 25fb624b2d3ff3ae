package blocks

import (
	"errors"
	"os"
	"path/filepath"

	"durablestream/event"
	"durablestream/internal/engine"
)

// A write that fails when nothing of it has reached the newest block, which it was the
// first message of, leaves that file empty, and the engine counts the Sequence all the same:
// as its last one, which no message has. It was acknowledged to nobody. The engine writes it
// into its state file too when it stops, and after its next start the Sequence is left
// out for ever.
//
// The messages of a block that was cut off are counted by the engine.

// Unwritten reports that the engine's last Sequence is of that kind, in a Log that begins at
// first, and of which found are the blocks.
func Unwritten(found []Block, first, last event.Sequence, messages uint64) bool {
	if len(found) == 0 || found[len(found)-1].Size > 0 {
		return false
	}
	written, records := max(1, first)-1, uint64(0)
	for _, b := range found {
		written = max(written, b.Last)
		records += b.Records
	}
	return last == written+1 && records == messages
}

// unwritten is Unwritten by the engine's state file, of a Log that begins at first. An empty
// Log looks much like it, and ends before it begins.
func unwritten(state engine.State, files []File, first event.Sequence) bool {
	n, newest := len(state.Blocks), files[len(files)-1]
	if n == 0 || newest.Size > 0 {
		return false
	}
	b := state.Blocks[n-1]
	if b.Index != newest.Index || b.Last != state.Last || b.First != b.Last+1 {
		return false
	}
	if n == 1 {
		return state.Last == max(1, first)
	}
	return state.Blocks[n-2].Last+1 == state.Last
}

// ForgetUnwritten keeps the engine, of which none may run, from leaving out a Sequence that
// it counted and could not write: it takes its state file away, which the engine makes
// anew from the blocks.
func ForgetUnwritten(dir string) error {
	state, files, err := readState(dir)
	if err != nil || len(files) == 0 || !unwritten(state, files, Begins(dir)) {
		return nil //nolint:nilerr // such a file the engine would not use
	}
	if err := os.Remove(filepath.Join(dir, engine.StateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}
