package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/blocks"
	"durablestream/internal/engine"
	"durablestream/internal/redirect"
	"durablestream/internal/staged"
	"durablestream/internal/wire"
)

// A lone host's engine stages a batch on disk, syncs that, and then stores it in the Log.
// What ends that half-way, a full disk or a crash, leaves a part of the batch at the Log's
// end. The engine completes it from what is staged when it starts. Then it deletes what is
// staged, whether it could complete the batch or not, and takes appends behind the part:
// whoever reads takes the part for settled then (see package client).
//
// So the engine only ever gets a copy of what is staged. The rule, on each path on which it
// starts:
//
//  1. appends are led nowhere;
//  2. all that is staged is moved aside, and what belongs to the Log's end is lent to the
//     engine as a copy, where there is room for that and for what the engine writes;
//  3. the engine starts;
//  4. the Log's last message is read. If it ends a part of a batch, appends stay refused,
//     with words, and what is aside stays. Else what is aside goes, and appends are taken.
//
// The watch over the disk does all that again once there is room. Readers hold back the part
// meanwhile. A crash leaves what was staged aside, or some of it there and some in the
// engine's directory, and the next start begins with 2.
//
// The copy is no link: the engine cuts off a block in place where it finds a record damaged.
// It is not synced, since it is only read by the engine that starts next.

// tornEnd is a part of a batch at the Log's end.
type tornEnd struct {
	part  *blocks.Part // nil: the end could not be read
	gone  bool         // the rest of the batch is not kept
	room  bool         // the engine had a copy of the rest, and did not complete the batch all the same
	again time.Time    // when the watch tries again
	tries int
}

const (
	endWait = 10 * time.Second // for the Log's last message
	// tornAgain is how long the watch waits after the engine could not complete a batch
	// although there was room; it doubles each time.
	tornAgain = time.Second
	tornMost  = 6 // times
)

// lack is what the watch says is lacking.
func (w *diskWatch) tornLack(e *tornEnd) Lack {
	if e.part == nil || e.gone || e.room || w.state.Load().Floor < 0 {
		return LackBatch
	}
	return LackSpace
}

// Torn says in words why appends are refused behind a part of a batch at the Log's end; "":
// there is none.
func (b *Broker) Torn() string {
	e := b.torn.Load()
	switch {
	case e == nil:
		return ""
	case e.part == nil:
		return "the end of the log cannot be read: the host tries again"
	case e.gone:
		return fmt.Sprintf("the log ends with a part of a batch (position %s) that was acknowledged to nobody, and the rest of it is gone: 'dstream doctor --fix' cuts the part off", e.part.Range)
	case e.room:
		return fmt.Sprintf("the log ends with a part of a batch (position %s) that was acknowledged to nobody, and the engine has not completed it: the host tries again; "+
			"if that does not help, 'dstream doctor --fix --accept-loss' cuts the part off", e.part.Range)
	}
	again := "the host completes it once there is space"
	if b.cfg.DiskFloor < 0 {
		again = "the watch over the disk is off (--disk-floor): make room, and start the host again, which completes it"
	}
	return fmt.Sprintf("the log ends with a part of a batch (position %s), and the disk had no space for the rest, which is kept: %s", e.part.Range, again)
}

// batches are what the engine has staged, and what is kept of it until the Log's end is seen.
func (b *Broker) batches() staged.Batches {
	return staged.Batches{
		Staged: filepath.Join(b.cfg.Dir, StoreDir, engine.StoreDir, b.cfg.account(), engine.StreamsDir, wire.LogName, engine.BatchesDir),
		Aside:  filepath.Join(b.cfg.Dir, AsideDir), Host: b.cfg.Dir, Logger: b.cfg.Logger,
	}
}

// AsideDir is inside Config.Dir while the engine starts, and as long as the Log ends with a
// part of a batch.
const AsideDir = "batches"

// lend gives the engine, which is off, copies of what it needs to complete a batch. Where
// there is no room for that it gets none.
func (b *Broker) lend() error {
	var ids []string
	if e := b.torn.Load(); e != nil && e.part != nil {
		ids = append(ids, e.part.Batch)
	}
	known := engineKnown()
	if known {
		part, err := blocks.OpenEnd(b.blocksDir())
		if err != nil {
			known = false // checkStore, and the engine, say more
		} else if part != nil {
			ids = append(ids, part.Batch)
		}
	}
	lent, err := b.batches().Lend(ids, !known)
	b.lent.Store(lent)
	return err
}

// giveStaged prepares what is staged for the engine, before the host starts it.
func (b *Broker) giveStaged() error {
	if b.cfg.ReadOnly || b.cfg.Cluster != nil { // a copy is thrown away; a node's raft log has the batch as a whole
		return nil
	}
	if err := b.putAside(); err != nil {
		return err
	}
	return b.lend()
}

func (b *Broker) putAside() error {
	if err := b.batches().PutAside(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// holdAppends leads appends nowhere, before a server starts its engine.
func (b *Broker) holdAppends(s *server.Server) error {
	if b.cfg.Cluster != nil || b.cfg.ReadOnly {
		return nil
	}
	acc, err := s.LookupAccount(b.cfg.account())
	if err == nil {
		err = b.appends.Lead(acc, redirect.Held)
	}
	if err != nil {
		return fmt.Errorf("broker: cannot hold back appends: %w", err)
	}
	return nil
}

// lookAtEnd looks whether the Log that the engine has opened ends with a part of a batch. If
// it does not, what is aside is done with, and at the start of the host appends are taken.
func (b *Broker) lookAtEnd(ctx context.Context) error {
	if b.cfg.Cluster != nil || b.cfg.ReadOnly {
		return nil
	}
	part, err := b.end(ctx)
	if err != nil {
		b.torn.Store(&tornEnd{again: time.Now().Add(tornAgain)})
		return err
	}
	if part == nil {
		b.torn.Store(nil)
		if err := b.batches().Forget(); err != nil { // it is of no use, and of no harm
			b.cfg.Logger.Warn("cannot remove what was staged of a batch that is stored", "err", err)
		}
		if b.disk != nil { // whose watch takes appends again
			return nil
		}
		acc, err := b.logAccount()
		if err == nil {
			err = b.appends.Lead(acc, redirect.Log)
		}
		return err
	}
	b.tornWith(part)
	return nil
}

// tornWith notes the part with which the Log ends.
func (b *Broker) tornWith(part *blocks.Part) {
	e := &tornEnd{part: part}
	kept, enough := b.batches().Kept(part.Batch)
	e.gone = !kept
	if enough {
		e.room = kept && b.lent.Load()
	}
	if was := b.torn.Load(); was != nil && e.room {
		e.tries = min(was.tries+1, tornMost)
	}
	if e.room {
		e.again = time.Now().Add(tornAgain << e.tries)
	}
	b.torn.Store(e)
	b.cfg.Logger.Error("appends are refused", "why", b.Torn())
}

// end reads the Log's last message.
func (b *Broker) end(ctx context.Context) (*blocks.Part, error) {
	last, h, err := wire.End(ctx, b.admin, b.js.Options().APIPrefix)
	if err != nil {
		return nil, fmt.Errorf("broker: cannot read the end of the log: %w", err)
	}
	return blocks.PartOf(h, last), nil
}

// refuseBehindPart refuses appends from the watch's first moment on where the Log ends with
// a part of a batch: the engine would store them behind it.
func (w *diskWatch) refuseBehindPart() error {
	torn := w.b.torn.Load()
	if torn == nil {
		return nil
	}
	now := *w.state.Load()
	now.Full, now.Lack = true, w.tornLack(torn)
	w.state.Store(&now)
	if err := w.refuse(now); err != nil {
		return errors.Join(errors.New("broker: cannot refuse appends behind a batch that is stored in part"), err)
	}
	return nil
}

// mended takes appends again after mend, or does not: the engine may have stored a part of
// a batch once more. Where the Log is not open it is lost that refuses them.
func (w *diskWatch) mended(was DiskState, now *DiskState) {
	now.Lack = LackNothing
	torn := w.b.torn.Load()
	if torn != nil && w.b.lost() == nil {
		now.Lack = w.tornLack(torn)
		now.Full = w.refuse(*now) == nil || was.Full
		return
	}
	now.Full = w.refuse(*now) != nil
}
