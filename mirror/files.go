package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"durablestream/event"
)

const (
	// ActiveName is the name of the newest file.
	ActiveName = "durable_stream.jsonl"

	rotatedHead = "durable_stream.seq-"
	rotatedTail = ".jsonl"
)

// rotatedName is the name of an older file whose first line has seq first.
func rotatedName(first event.Sequence) string { return rotatedHead + first.String() + rotatedTail }

// file is one file of a mirror.
type file struct {
	path  string
	first event.Sequence // of an older file, as its name says; 0 for the active one
}

func (f file) active() bool { return f.first == 0 }

// parseRotated reads the first seq out of a name in the one form that is written.
func parseRotated(name string) (event.Sequence, bool) {
	mid, ok := strings.CutPrefix(name, rotatedHead)
	mid, ok2 := strings.CutSuffix(mid, rotatedTail)
	if !ok || !ok2 {
		return 0, false
	}
	n, err := event.ParseSequence(mid)
	return n, err == nil && n != 0 && rotatedName(n) == name
}

// Files gives the paths of a mirror's files, oldest first, the active one last. A
// directory that is not there has none.
func Files(dir string) ([]string, error) {
	files, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	paths := make([]string, 0, len(files))
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, nil
}

// list gives a mirror's files, oldest first, the active one last. A directory that
// is not there has none.
func list(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the mirror's files: %w", err)
	}
	var files []file
	active := false
	for _, e := range entries {
		first, ok := parseRotated(e.Name())
		if !ok && e.Name() != ActiveName {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s is in the place of a mirror's file and is no regular file: move it away", path)
		}
		if !ok {
			active = true
			continue
		}
		files = append(files, file{path, first})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.first, b.first) })
	if active {
		files = append(files, file{path: filepath.Join(dir, ActiveName)})
	}
	return files, nil
}

// syncDir makes renames and new names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
