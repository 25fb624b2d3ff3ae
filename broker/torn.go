package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// A lone host's engine stages a batch on disk, syncs that, and then stores it in the Log.
// What ends that half-way, a full disk or a crash, leaves a part of the batch at the Log's
// end. The engine completes it from what is staged when it starts, and deletes what is
// staged then, whether it could complete the batch or not: on a disk that is full at that
// moment the Log would hold a part of a batch for good.
//
// So the engine gets what is staged only where there is room for it. Else this keeps it
// aside, the engine starts without, appends are refused from before anybody is let in, and
// readers hold back the part (see package client). The watch over the disk gives it back
// and restarts the engine once there is room. A crash at any point leaves what is staged in
// one of the two places, or some here and some there, and the next start begins anew.

// stagedSize is how many bytes of batches are staged, or kept aside.
func (b *Broker) stagedSize() (size int64) {
	for _, dir := range []string{b.staged(), b.aside()} {
		// What goes meanwhile is of no size; what cannot be read, the engine cannot either.
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil //nolint:nilerr // see above
			}
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
			return nil
		})
	}
	return size
}

// giveStaged gives the engine what is staged before it starts, or keeps that aside.
func (b *Broker) giveStaged() error {
	size := b.stagedSize()
	if b.cfg.Cluster == nil && !b.cfg.ReadOnly && size > 0 {
		r, err := roomOf(b.cfg.Dir)
		if err == nil && r.free < roomSize+size {
			if b.cfg.DiskFloor < 0 {
				return fmt.Errorf("broker: the disk of %s has %d bytes free, and %d are needed to complete batches that are stored in part: make room, and start again",
					b.cfg.Dir, r.free, roomSize+size)
			}
			b.cfg.Logger.Warn("a batch may be stored in part, and there is no room to complete it: appends are refused until there is", "free", r.free, "needed", roomSize+size)
			b.partial.Store(true)
			return moveAll(b.staged(), b.aside())
		}
	}
	return moveAll(b.aside(), b.staged()) // after a crash in restartEngine, or a start without room
}

// refuseBehindPart refuses appends from the watch's first moment on where a batch is kept
// aside: the engine would store them behind the part of it.
func (w *diskWatch) refuseBehindPart() error {
	if !w.b.partial.Load() {
		return nil
	}
	now := *w.state.Load()
	now.Full, now.Lack = true, LackSpace
	w.state.Store(&now)
	if err := w.refuse(now); err != nil {
		return errors.Join(errors.New("broker: cannot refuse appends behind a batch that is stored in part"), err)
	}
	return nil
}
