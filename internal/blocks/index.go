package blocks

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// LastWritten reads the engine's state file. It returns the last Sequence that the engine
// had written when it saved the file, and whether the file describes the blocks as they
// are. Only then does the engine rely on it. Otherwise the engine reads all blocks when it
// starts, and cuts off what is damaged.
//
// A file that is missing, that cannot be read or that the engine would not use says
// nothing: LastWritten returns (0, false).
func LastWritten(dir string) (last event.Sequence, current bool) {
	state, files, err := readState(dir)
	if err != nil {
		return 0, false
	}
	if len(files) == 0 {
		return state.Last, false
	}
	if unwritten(state, files, Begins(dir)) {
		return state.Last - 1, false
	}
	here := make(map[uint32]bool, len(files))
	for _, f := range files {
		here[f.Index] = true
	}
	for _, b := range state.Blocks {
		if !here[b.Index] {
			return state.Last, false
		}
	}
	newest := files[len(files)-1]
	return state.Last, newest.Index == state.Newest && endsWith(newest, state.Sum[:])
}

// readState reads the engine's state file, and lists the blocks beside it.
func readState(dir string) (engine.State, []File, error) {
	raw, err := paths.ReadFile(filepath.Join(dir, engine.StateFile))
	if err != nil {
		return engine.State{}, nil, err
	}
	state, err := engine.ReadState(wire.LogName, raw)
	if err != nil {
		return engine.State{}, nil, err
	}
	files, err := List(dir)
	if err != nil {
		files = nil // the state tells without them
	}
	return state, files, nil
}

// endsWith reports that a block file's last bytes are sum.
func endsWith(f File, sum []byte) bool {
	file, err := os.Open(f.Path)
	if err != nil {
		return false
	}
	defer file.Close()
	end := make([]byte, len(sum))
	_, err = file.ReadAt(end, f.Size-int64(len(sum)))
	return err == nil && bytes.Equal(sum, end)
}

// Stream reads the stream's own configuration, beside the blocks, and when it was made.
func Stream(dir string) (cfg jetstream.StreamConfig, made string, err error) {
	var meta struct {
		Created string
		jetstream.StreamConfig
	}
	b, err := paths.ReadFile(filepath.Join(filepath.Dir(dir), engine.ConfigFile))
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	return meta.StreamConfig, meta.Created, err
}

// Begins is the first Sequence by that; 1 where it cannot be read.
func Begins(dir string) event.Sequence {
	cfg, _, err := Stream(dir)
	if err != nil {
		return 1
	}
	return max(1, event.Sequence(cfg.FirstSeq))
}
