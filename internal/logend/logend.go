// Package logend finds out whether a lone host's Log ends with a part of a batch, and gives
// the engine the rest, so that the engine completes the batch.
//
// A lone host's engine first stages a batch in files on disk, syncs them, and then stores
// the batch in the Log. A full disk or a crash in between leaves a part of the batch at the
// Log's end. At its next start the engine completes the batch from the staged files. Then it
// deletes those files, also where it could not complete the batch, and takes appends behind
// the part: a reader would then take the part for whole (see package client).
//
// So the engine only ever gets a copy of the staged files. On each path on which the engine
// starts:
//
//  1. no append reaches the engine;
//  2. the host moves all staged files aside. It copies back those that belong to the Log's
//     end, where there is room for the copy and for the engine's own writes;
//  3. the engine starts;
//  4. the host reads the Log's last message. If it ends a part of a batch, the host goes on
//     refusing appends, with the reason, and keeps the files aside. Otherwise it deletes
//     them and takes appends.
//
// The disk watch repeats this once there is room. Meanwhile readers hold the part back. A
// crash leaves the staged files aside, or some of them there and some in the engine's
// directory, and the next start begins with 2.
//
// The copy is no link, because the engine cuts a block off in place where it finds a damaged
// record. The copy is not synced, because only the engine that starts next reads it.
package logend

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/blocks"
	"durablestream/internal/staged"
	"durablestream/internal/wire"
)

// End is the end of one host's Log. Lend, Look and Reread may not overlap; the others may.
type End struct {
	Batches   staged.Batches // that the engine has staged, and their files that are kept aside
	Blocks    string         // the directory of the Log's block files
	Known     bool           // whether this program knows the form of the block files
	Unwatched bool           // whether the disk watch is off
	Logger    *slog.Logger
	JS        jetstream.JetStream // the host's own; set it before Look

	torn atomic.Pointer[Torn] // nil: the Log does not end with a part of a batch
	lent atomic.Bool          // the engine got a copy of the rest of a batch: see Lend
}

// Torn is a part of a batch at the Log's end.
type Torn struct {
	part  *blocks.Part // nil: the end could not be read
	gone  bool         // the rest of the batch is lost
	room  bool         // the engine had a copy of the rest, and did not complete the batch all the same
	again time.Time    // when the watch tries again
	tries int
}

const (
	// Wait is the timeout for a read of the Log's last message.
	Wait = 10 * time.Second
	// tornAgain is the watch's pause after the engine did not complete a batch although there
	// was room; it doubles each time.
	tornAgain = time.Second
	tornMost  = 6 // doublings
)

// Gone reports whether the rest of the batch is lost.
func (t *Torn) Gone() bool { return t.gone }

// Early reports whether it is too early for the next attempt.
func (t *Torn) Early() bool { return time.Now().Before(t.again) }

// ByRoom reports whether the engine needs only more room on the disk to complete the batch.
func (t *Torn) ByRoom() bool { return t.part != nil && !t.gone && !t.room }

// Torn returns the part of a batch at the Log's end; nil: there is none.
func (e *End) Torn() *Torn { return e.torn.Load() }

// Why explains to a user why appends are refused behind a part of a batch; "": there is none.
func (e *End) Why() string {
	t := e.torn.Load()
	switch {
	case t == nil:
		return ""
	case t.part == nil:
		return "the end of the log cannot be read: the host tries again"
	case t.gone:
		return fmt.Sprintf("the log ends with a part of a batch (position %s) that was acknowledged to nobody, and the rest of it is gone: 'dstream doctor --fix' cuts the part off", t.part.Range)
	case t.room:
		return fmt.Sprintf("the log ends with a part of a batch (position %s) that was acknowledged to nobody, and the engine has not completed it: the host tries again; "+
			"if that does not help, 'dstream doctor --fix --accept-loss' cuts the part off", t.part.Range)
	}
	again := "the host completes it once there is space"
	if e.Unwatched {
		again = "the watch over the disk is off (--disk-floor): make room, and start the host again, which completes it"
	}
	return fmt.Sprintf("the log ends with a part of a batch (position %s), and the disk had no space for the rest, which is kept: %s", t.part.Range, again)
}

// Lend copies back the staged files of the batch at the Log's end, where there is room for
// that. Call it while the engine is off.
func (e *End) Lend() error {
	var ids []string
	if t := e.torn.Load(); t != nil && t.part != nil {
		ids = append(ids, t.part.Batch)
	}
	known := e.Known
	if known {
		part, err := blocks.OpenEnd(e.Blocks)
		if err != nil {
			known = false // the check of the store, and the engine, say more
		} else if part != nil {
			ids = append(ids, part.Batch)
		}
	}
	lent, err := e.Batches.Lend(ids, !known)
	e.lent.Store(lent)
	return err
}

// Look reports whether the Log that the engine has opened ends with a whole batch. If so, it
// deletes the files that were kept aside.
func (e *End) Look(ctx context.Context) (whole bool, err error) {
	part, err := e.read(ctx)
	if err != nil {
		e.unread()
		return false, err
	}
	if part != nil {
		e.found(part)
		return false, nil
	}
	e.torn.Store(nil)
	if err := e.Batches.Forget(); err != nil { // the files are of no use, and do no harm
		e.Logger.Warn("cannot remove what was staged of a batch that is stored", "err", err)
	}
	return true, nil
}

// Reread reads the Log's last message again, unless a part of a batch is known already. It
// returns false if there is a part: the engine must start again to complete the batch.
func (e *End) Reread() bool {
	if t := e.torn.Load(); t != nil && t.part != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	part, err := e.read(ctx)
	switch {
	case err != nil:
		e.unread()
	case part == nil:
		e.torn.Store(nil)
	default:
		return false
	}
	return true
}

func (e *End) unread() { e.torn.Store(&Torn{again: time.Now().Add(tornAgain)}) }

// found stores the part at the Log's end, and logs that appends are refused.
func (e *End) found(part *blocks.Part) {
	t := &Torn{part: part}
	kept, enough := e.Batches.Kept(part.Batch)
	t.gone = !kept
	if enough {
		t.room = kept && e.lent.Load()
	}
	if was := e.torn.Load(); was != nil && t.room {
		t.tries = min(was.tries+1, tornMost)
	}
	if t.room {
		t.again = time.Now().Add(tornAgain << t.tries)
	}
	e.torn.Store(t)
	e.Logger.Error("appends are refused", "why", e.Why())
}

// read reads the Log's last message.
func (e *End) read(ctx context.Context) (*blocks.Part, error) {
	last, h, err := wire.End(ctx, e.JS.Conn(), e.JS.Options().APIPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read the end of the log: %w", err)
	}
	return blocks.PartOf(h, last), nil
}
