package blocks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
)

// IndexFile is what the engine keeps of a stream's state beside its blocks. It is
// written now and then and at an orderly stop, and made anew where it is not there.
const IndexFile = "index.db"

// LastWritten reads from the index up to which Sequence the engine had written when it
// was kept, and whether nothing was written since: only then does the engine trust
// it. Otherwise it reads all blocks when it starts, and cuts off what is damaged.
// An index that cannot be read says (0, false).
func LastWritten(dir string) (last event.Sequence, current bool) {
	b, err := os.ReadFile(filepath.Join(dir, IndexFile))
	if err != nil || len(b) < 32 {
		return 0, false
	}
	rest := b[2:] // magic, version; then messages, bytes, first, its time, last
	for field := range 5 {
		n, size := binary.Uvarint(rest) // the time is a Varint, of the same size
		if size <= 0 {
			return 0, false
		}
		rest = rest[size:]
		if field == 4 {
			last = event.Sequence(n)
		}
	}
	files, err := List(dir)
	if err != nil || len(files) == 0 {
		return last, false
	}
	newest := files[len(files)-1]
	end := make([]byte, sumLen)
	f, err := os.Open(newest.Path)
	if err != nil {
		return last, false
	}
	defer f.Close()
	if _, err := f.ReadAt(end, newest.Size-sumLen); err != nil {
		return last, false
	}
	kept := b[len(b)-2*sumLen : len(b)-sumLen] // of the newest record; the file's own sum follows
	return last, bytes.Equal(kept, end)
}

// Stream reads the stream's own configuration, beside the blocks, and when it was made.
func Stream(dir string) (cfg jetstream.StreamConfig, made string, err error) {
	var meta struct {
		Created string
		jetstream.StreamConfig
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "meta.inf"))
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
