package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"durablestream/event"
)

// writer owns the active file. Only the holder of the lock has one.
//
// Every write goes to offset synced, the end of the bytes that are known to be on disk,
// and counts only after a sync: after any failure, the writer cuts the file back to
// synced, and writes the same bytes again.
//
// Rotation, and what a crash leaves behind at each of its steps:
//
//	fsync    the active file is whole, as after any batch: nothing happened yet.
//	rename   either name leads to the same whole file. If the new one, there is no
//	         active file: resume finds the position in the newest older one.
//	dirsync  as before; from here on the rename stays. Without this step a crash
//	         could keep the new active file and lose the older one's name.
//	create   an empty active file: the position is still the older one's.
//	dirsync  from here on the new file's name stays; only then lines go into it.
//
// At no step does a line exist under two names or none, and the chain goes on from the
// older file's last line, so a crash neither loses nor repeats one.
type writer struct {
	cfg    Config
	path   string // of the active file
	file   *os.File
	id     fs.FileInfo    // the file itself, also when it is renamed
	synced int64          // the length that is on disk
	first  event.Sequence // of the active file's first line; 0: it has none
	day    string         // UTC, of the last write

	made    bool // the active file is there, and is ours
	newName bool // its name may not be on disk yet
	dirty   bool // its last bytes may not be on disk
}

// openWriter cuts a torn tail off and opens the active file, or creates it.
//
// A crash after the cut leaves the file shorter than before, and whole.
func openWriter(cfg Config, e ends) (*writer, error) {
	w := &writer{cfg: cfg, path: filepath.Join(cfg.Dir, ActiveName)}
	if !e.active {
		if err := w.create(); hopeless(err) {
			w.close()
			return nil, err
		} else if err != nil { // it is tried again, and reported, with the first batch
			cfg.Logger.Warn("mirror: cannot make the file yet", "file", w.path, "err", err)
		}
		return w, nil
	}
	w.made, w.synced, w.first, w.day = true, e.keep, e.first, day(e.mod)
	if e.keep < e.size {
		cfg.Logger.Info("mirror: cutting a torn tail", "file", w.path, "bytes", e.size-e.keep)
	}
	// A process that was killed before it could sync the file or its name may have
	// written the kept bytes.
	w.newName = true
	err := w.reopen(e.size)
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("cannot open the mirror to write: %w", err)
	}
	return w, nil
}

func (w *writer) close() {
	if w.file != nil {
		w.file.Close() // all that counts was synced
	}
}

// write appends a batch after the synced bytes, and syncs it. After an error no line of
// the batch counts, and the caller may call write again with the same batch, unless the
// error is hopeless.
func (w *writer) write(b *batch) error {
	if err := w.ready(); err != nil {
		return err
	}
	if w.rotationDue() {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	// A crash from here on leaves a part of the batch: resume cuts it to whole lines and
	// continues after them.
	w.dirty = true
	err := w.cfg.step("write")
	if err == nil {
		_, err = w.file.WriteAt(b.data, w.synced)
	}
	if err == nil {
		err = w.cfg.step("fsync")
	}
	if err == nil {
		err = w.file.Sync()
	}
	if hopeless(err) {
		return err
	}
	if err != nil {
		// Readers should not see half a line for as long as the disk is full. If
		// this fails too, the next call does it.
		return errors.Join(err, w.repair())
	}
	if len(b.data) >= w.cfg.batchBytes {
		letGo(w.file, w.synced, int64(len(b.data)))
	}
	w.dirty = false
	w.synced += int64(len(b.data))
	w.day = day(w.cfg.now())
	if w.first == 0 {
		w.first = b.first
	}
	return nil
}

// ready prepares the writer for a batch: afterwards the active file exists, under a
// durable name, and ends at synced.
func (w *writer) ready() error {
	if !w.made || w.newName {
		if err := w.create(); err != nil {
			return err
		}
	}
	if w.dirty {
		return w.repair()
	}
	size, err := w.size()
	if err == nil && size > w.synced {
		err = w.damage("something else writes to it: it has %d bytes where the mirror wrote %d", size, w.synced)
	}
	return err
}

// size is the length of the active file. It returns damage if another program moved the
// file away or changed it, since lines written to it would be lost.
func (w *writer) size() (int64, error) {
	info, err := os.Stat(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && gone(filepath.Dir(w.path)):
		return 0, permanent{fmt.Errorf("%s is gone: its directory was removed or moved away while the mirror wrote it", w.path)}
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, w.id):
		return 0, w.damage("it was moved away or replaced while the mirror wrote it")
	case err != nil:
		return 0, err
	case info.Size() < w.synced:
		return 0, w.damage("it has only %d of the %d bytes that were synced", info.Size(), w.synced)
	}
	return info.Size(), nil
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// damage reports a change to the file that the mirror did not make.
func (w *writer) damage(why string, args ...any) error {
	line := 1
	if w.file != nil {
		n, _ := countLines(w.file, w.synced) // as far as it can be read
		line = n + 1
	}
	return &DamageError{File: w.path, Line: line, Why: fmt.Sprintf(why, args...)}
}

// repair cuts the file back to its synced length. After a failed fsync the kernel may call
// pages clean that never reached the disk. So repair opens the file again, and the writer
// writes all bytes again that are not known to be on disk.
func (w *writer) repair() error {
	size, err := w.size()
	if err == nil {
		err = w.reopen(size)
	}
	if err == nil {
		w.dirty = false
	}
	return err
}

// reopen opens the active file of the given size, and cuts it to synced.
func (w *writer) reopen(size int64) error {
	w.close()
	f, err := os.OpenFile(w.path, os.O_RDWR, 0)
	if err != nil {
		w.file, w.dirty = nil, true
		return err
	}
	w.file = f
	if w.id, err = f.Stat(); err == nil && size != w.synced {
		err = f.Truncate(w.synced)
	}
	return err
}

func (w *writer) rotationDue() bool {
	if w.first == 0 {
		return false
	}
	return w.cfg.MaxBytes > 0 && w.synced >= w.cfg.MaxBytes ||
		!w.cfg.NoDaily && w.day != day(w.cfg.now())
}

// day is the UTC day of t.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// rotate renames the active file to its older name and creates a new one. It may be
// called again after an error: once the rename is done, ready continues with create.
func (w *writer) rotate() error {
	if err := w.cfg.step("fsync"); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		w.dirty = true
		return err
	}
	// Only the holder of the lock creates these names, so no file appears between this
	// check and the rename, which would silently replace an existing file.
	target := filepath.Join(w.cfg.Dir, rotatedName(w.first))
	if _, err := os.Lstat(target); err == nil {
		return permanent{fmt.Errorf("cannot rotate the mirror: %s exists already: move it away", target)}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.cfg.step("rename"); err != nil {
		return err
	}
	if err := os.Rename(w.path, target); err != nil {
		return err
	}
	w.close()
	w.file, w.made = nil, false
	w.synced, w.first = 0, 0
	return w.create()
}

// create creates the active file, which must not exist, and makes its name durable.
func (w *writer) create() error {
	if !w.made {
		if err := w.syncDir(); err != nil { // of the rename before
			return err
		}
		if err := w.cfg.step("create"); err != nil {
			return err
		}
		f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return permanent{fmt.Errorf("cannot make a new mirror file: %s appeared meanwhile: move it away", w.path)}
		}
		if err != nil {
			return err
		}
		w.file, w.made, w.newName, w.dirty = f, true, true, false
		if w.id, err = f.Stat(); err != nil {
			return err
		}
	}
	if err := w.syncDir(); err != nil {
		return err
	}
	w.newName = false
	return nil
}

func (w *writer) syncDir() error {
	if err := w.cfg.step("dirsync"); err != nil {
		return err
	}
	return syncDir(w.cfg.Dir)
}
