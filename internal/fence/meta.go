package fence

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/engine"
	"durablestream/internal/paths"
	"durablestream/internal/wire"
)

// settleMeta ensures that the engine finds a valid configuration without limits in dir.
func (s Store) settleMeta(dir string) error {
	if s.Blind {
		return nil
	}
	meta, err := paths.ReadFile(filepath.Join(dir, engine.ConfigFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	sum, err := paths.ReadFile(filepath.Join(dir, engine.ConfigSum))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	sound := len(meta) > 0 && string(sum) == engine.SumOf(wire.LogName, meta)
	if !sound {
		var why string
		if meta, why = s.soundMeta(dir, meta); why != "" {
			return s.lost("%s", why)
		}
		if meta == nil {
			return nil
		}
	}
	mended, words, err := withoutLimits(dir, meta)
	if err != nil {
		return s.lost("its configuration in %s cannot be read: %v", s.shown(filepath.Join(dir, engine.ConfigFile)), err)
	}
	if words != "" {
		s.warn("the Log's stored configuration had a limit by which the engine deletes events, and it was taken off: " + words)
	}
	if words != "" || !sound {
		return s.writeMeta(dir, mended)
	}
	if err := s.at("copy"); err != nil {
		return err
	}
	if err := s.keep(meta); err != nil { // no space, perhaps: the next start tries again
		s.debug("cannot copy the Log's configuration", err)
	}
	return nil
}

// soundMeta finds the configuration if the engine would reject the present one: the kept
// copy, or the file itself after a crash between the file and its checksum. It returns
// nothing, and no reason, if there is no Log yet.
func (s Store) soundMeta(dir string, meta []byte) (sound []byte, why string) {
	if kept, ok := s.readKept(); ok {
		s.warn("the Log's configuration had gone or was damaged, and was put back from its copy")
		return kept, ""
	}
	var cfg jetstream.StreamConfig
	if json.Unmarshal(meta, &cfg) == nil && ours(cfg) {
		s.warn("the Log's configuration had no checksum, or a wrong one, which was put right")
		return meta, ""
	}
	if bytesIn(dir) == 0 { // a crash while the Log was created
		for _, name := range []string{engine.ConfigFile, engine.ConfigSum} {
			if err := s.at("partial"); err != nil {
				return nil, err.Error()
			}
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err.Error()
			}
		}
		return nil, ""
	}
	return nil, "its configuration " + s.shown(filepath.Join(dir, engine.ConfigFile)) + " has gone or is damaged, and there is no copy of it"
}

// writeMeta writes a configuration so that a crash leaves the old one, or one that Settle
// completes.
func (s Store) writeMeta(dir string, meta []byte) error {
	err := s.at("keep")
	if err == nil {
		err = s.keep(meta)
	}
	if err == nil {
		err = s.at("meta")
	}
	if err == nil {
		err = writeSynced(filepath.Join(dir, engine.ConfigFile), meta)
	}
	if err == nil {
		err = s.at("sum")
	}
	if err == nil {
		err = writeSynced(filepath.Join(dir, engine.ConfigSum), []byte(engine.SumOf(wire.LogName, meta)))
	}
	return err
}

// Keep copies the configuration that the engine has written, if it has changed.
func (s Store) Keep() error {
	if s.Blind {
		return nil
	}
	meta, err := paths.ReadFile(filepath.Join(s.engine(), engine.ConfigFile))
	if err != nil {
		return err
	}
	sum, err := paths.ReadFile(filepath.Join(s.engine(), engine.ConfigSum))
	if err != nil || string(sum) != engine.SumOf(wire.LogName, meta) {
		return err // the engine is writing it
	}
	return s.keep(meta)
}

func (s Store) keep(meta []byte) error {
	var cfg jetstream.StreamConfig
	if err := json.Unmarshal(meta, &cfg); err != nil || !ours(cfg) {
		return nil //nolint:nilerr // it is none of ours
	}
	if kept, ok := s.readKept(); ok && bytes.Equal(kept, meta) {
		return nil
	}
	return writeSynced(filepath.Join(s.Dir, KeptFile), append([]byte(engine.SumOf(wire.LogName, meta)+"\n"), meta...))
}

// readKept returns the copy, if there is one and it is whole.
func (s Store) readKept() (meta []byte, ok bool) {
	b, err := paths.ReadFile(filepath.Join(s.Dir, KeptFile))
	if err != nil {
		return nil, false
	}
	sum, meta, _ := bytes.Cut(b, []byte("\n"))
	return meta, string(sum) == engine.SumOf(wire.LogName, meta) && len(meta) > 0
}

// writeSynced writes a file durably and in one step.
func writeSynced(path string, b []byte) error {
	tmp := path + ".tmp" // as the engine does: a crash leaves no more than one
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}
