package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
)

// Prepare creates the place for a new Log. The caller has checked that the store holds
// none.
func (s Store) Prepare() error {
	if p, err := placeOf(s.engine()); err != nil || p != nothing {
		return err
	}
	err := s.at("mkdir")
	if err == nil {
		err = os.MkdirAll(s.data(), 0o700)
	}
	if err == nil {
		err = s.link()
	}
	if err != nil {
		return fmt.Errorf("fence: cannot make the place of the Log: %w", err)
	}
	return nil
}

// Renew creates the place for a Log that is created again, after the engine has deleted
// the empty Log. After a crash Settle restores the empty Log.
func (s Store) Renew() error {
	p, err := placeOf(s.data())
	if err != nil || p == nothing {
		return err
	}
	if rep, err := blocks.Check(filepath.Join(s.data(), engine.MessagesDir), 0, 0); err != nil || rep.Records > 0 {
		return errors.Join(err, s.lost("%s holds %d messages, and is not emptied for another Log", s.shown(s.data()), rep.Records))
	}
	if err := s.at("empty"); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.data())
	for _, e := range entries {
		if err == nil {
			err = os.RemoveAll(filepath.Join(s.data(), e.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("fence: cannot empty the place of the Log: %w", err)
	}
	return s.Prepare()
}

// Holds reports whether the store holds a message or a configuration of a Log in any
// place: then no other Log may be created.
func (s Store) Holds() bool {
	_, kept := s.readKept()
	return kept || holds(s.data()) || holds(s.engine())
}

// holds also reports true if it cannot read the directory.
func holds(dir string) bool {
	if bytesIn(dir) > 0 {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, engine.ConfigFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// bytesIn is the size of the blocks in a stream's directory; 1 where it cannot be read.
func bytesIn(dir string) (n int64) {
	files, err := blocks.List(filepath.Join(dir, engine.MessagesDir))
	if err != nil {
		return 1
	}
	for _, f := range files {
		n += f.Size
	}
	return n
}
