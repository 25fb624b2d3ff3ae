package legacy

import (
	"errors"
	"fmt"
	"os"

	"durablestream/event"
)

// Lines are all lines of some files.
type Lines struct {
	Files   []string      // that were read, in order
	Events  []event.Event // of the lines that hold one
	Where   []string      // where each event stood
	Mended  int           // lines where a missing field was filled in
	Damaged []string      // lines that hold none, and why
}

// ReadAll reads files, each with its rotated siblings.
func ReadAll(paths []string) (Lines, error) {
	l := Lines{Damaged: []string{}}
	for _, path := range paths {
		files, err := Files(path)
		if err != nil {
			return l, err
		}
		for _, name := range files {
			l.Files = append(l.Files, name)
			if err := l.read(name); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}

func (l *Lines) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for line, err := range Read(f, name) {
		switch {
		case err != nil:
			return err
		case errors.Is(line.Err, ErrMirrorLine):
			return fmt.Errorf("%s line %d: %w", name, line.Number, ErrMirrorLine)
		case line.Err != nil:
			l.Damaged = append(l.Damaged, line.Err.Error())
			continue
		}
		if len(line.Fixed) > 0 {
			l.Mended++
		}
		l.Events = append(l.Events, line.Event)
		l.Where = append(l.Where, fmt.Sprintf("%s line %d", name, line.Number))
	}
	return nil
}
