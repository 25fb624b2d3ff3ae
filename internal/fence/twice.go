package fence

import (
	"os"
	"path/filepath"
	"strings"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
)

// settleTwo decides between the engine's own directory and the data: a copy of the store
// that followed the link, or a program without a fence that created a Log.
func (s Store) settleTwo(stands place) error {
	before, behind, err := s.compare()
	if err != nil {
		return err
	}
	switch {
	case before.records > 0 && behind.records > 0 && (before.made != behind.made || before.made == ""):
		return &TwoLogsError{s.shown(s.engine()), s.shown(s.data())}
	case behind.records > 0 && behind.records >= before.records:
		if err := s.moveAside(s.engine(), "engine"); err != nil {
			return err
		}
		if err := s.link(); err != nil {
			return err
		}
		return s.settleMeta(s.data())
	}
	if err := s.settleMeta(s.engine()); err != nil {
		return err
	}
	if err := s.moveAside(s.data(), DataDir); err != nil || stands == otherLink {
		return err
	}
	return s.convert()
}

// side is one of two Logs in a store.
type side struct {
	records uint64
	made    string // when; "": not known
}

func (s Store) compare() (before, behind side, err error) {
	for _, of := range []struct {
		dir string
		is  *side
	}{{s.engine(), &before}, {s.data(), &behind}} {
		rep, err := blocks.Check(filepath.Join(of.dir, engine.MessagesDir), 0, 0)
		if err != nil {
			return before, behind, err
		}
		of.is.records = rep.Records
		_, of.is.made, _ = blocks.Stream(filepath.Join(of.dir, engine.MessagesDir)) // "" is no other's
	}
	return before, behind, nil
}

// moveAside keeps the replaced directory.
func (s Store) moveAside(path, name string) error {
	if err := s.at("aside"); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Aside, 0o700); err != nil {
		return err
	}
	to, err := os.MkdirTemp(s.Aside, "replaced-log-")
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(to, strings.TrimPrefix(name, "."))); err != nil {
		return err
	}
	s.warn("the store held the Log twice: one copy was moved to " + to)
	return syncDir(filepath.Dir(path))
}
