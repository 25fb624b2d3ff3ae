package measure

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"durablestream/event"
	"durablestream/internal/wire"
	"durablestream/mirror"
)

// File is the neighbour that tells what the disk itself can do: each event's line is
// written to a plain file, and synced.
type File struct {
	f    *os.File
	line []byte
}

// NewFile makes the file.
func NewFile(path string) (*File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	e := Event()
	e.ID, e.CorrelationID, e.Timestamp = event.NewID(), event.NewID(), event.Now()
	return &File{f, append(wire.Encode(event.Recorded{Event: e}).Data, '\n')}, nil
}

// Append writes and syncs one line.
func (f *File) Append(context.Context) error {
	if _, err := f.f.Write(f.line); err != nil {
		return err
	}
	return f.f.Sync()
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// Line is a line of the mirror, as far as one must be parsed to find events.
type Line struct {
	Type          string          `json:"type"`
	StreamID      string          `json:"stream_id"`
	CorrelationID string          `json:"correlation_id"`
	Actor         string          `json:"actor"`
	Timestamp     int64           `json:"timestamp"`
	Payload       json.RawMessage `json:"payload"`
}

// ParseJSONL reads a mirror's files line by line and calls f with each line, parsed:
// what the original module does to find anything at all.
func ParseJSONL(dir string, f func(Line)) (lines int, err error) {
	files, err := mirror.Files(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range files {
		n, err := parseFile(name, f)
		lines += n
		if err != nil {
			return lines, fmt.Errorf("measure: %s: %w", name, err)
		}
	}
	return lines, nil
}

func parseFile(name string, f func(Line)) (lines int, err error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(make([]byte, 1<<20), 64<<20)
	for s.Scan() {
		var l Line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return lines, err
		}
		lines++
		f(l)
	}
	return lines, s.Err()
}

// Size is how many bytes the files under a directory hold.
func Size(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
