package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/fence"
	"durablestream/internal/redirect"
	"durablestream/internal/wire"
)

// NotOpenError is a Log that lies in the store, and that the engine has not opened. The
// host creates no other one in its place.
type NotOpenError struct {
	Dir string // of the host
	Why string // the engine's words; "": it has none
}

func (e *NotOpenError) Error() string {
	why := e.Why
	if why == "" {
		why = "it gives no reason"
	}
	return fmt.Sprintf("broker: the Log lies in %s, and the engine does not open it (%s): nothing of it was changed, and no other Log is created in its place; "+
		"give the host space, inodes and the rights to its own files, then start it again", filepath.Join(e.Dir, StoreDir), why) + e.Advice()
}

// Advice is the end of Error, which the doctor leaves out.
func (e *NotOpenError) Advice() string { return ", or look with 'dstream doctor'" }

// placed is what a broker knows of the place of its Log: see package fence.
type placed struct {
	recreating atomic.Bool           // RecreateLog has removed it for a moment
	lost       atomic.Pointer[error] // the engine has restarted and has not opened it
}

// fenced is the fence around the Log of a lone host. Its paths lead by the open directory:
// another one in its place is not written to.
func (b *Broker) fenced() fence.Store {
	name := filepath.Join(b.cfg.Dir, StoreDir)
	return fence.Store{Dir: pathOf(b.store), Name: name, Account: b.cfg.account(), Aside: filepath.Join(b.cfg.Dir, DamagedDir), Logger: b.cfg.Logger,
		Blind: CheckEngine() != nil}
}

// settleStore puts the Log where the engine finds it, before each time that the engine
// opens it. A node of a cluster has no fence: the engine replaces a link by a real
// directory when it copies the Log from the other nodes, and limits come back from the
// meta group, whose copy of the configuration counts there.
func (b *Broker) settleStore() error {
	if b.cfg.Cluster != nil {
		return nil
	}
	if err := b.fenced().Settle(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// openLog checks the Log that the engine has opened, or creates it where the store holds
// none.
func (b *Broker) openLog(ctx context.Context) error {
	err := b.checkLog(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		b.keepConfig()
		return err
	}
	place := b.fenced()
	if place.Holds() {
		return &NotOpenError{b.cfg.Dir, b.log.Unopened()}
	}
	if b.cfg.Expect != "" {
		return &MissingLogError{b.cfg.Dir, false}
	}
	if b.cfg.NoCreate {
		return &NoLogError{Dir: b.cfg.Dir}
	}
	if err := place.Prepare(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if err := wire.CreateLog(ctx, b.js, 1, b.cfg.DuplicateWindow); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.keepConfig()
	return nil
}

// keepConfig copies the Log's configuration where it has changed.
func (b *Broker) keepConfig() {
	if b.cfg.Cluster != nil || b.place.recreating.Load() {
		return
	}
	if err := b.fenced().Keep(); err != nil {
		b.cfg.Logger.Debug("cannot copy the Log's configuration", "err", err)
	}
}

// RecreateLog makes the Log again with its first Sequence at first, which only an
// empty Log allows. It is for a restore, before the broker is advertised.
func (b *Broker) RecreateLog(ctx context.Context, first event.Sequence) error {
	var ready func() error
	if b.cfg.Cluster == nil {
		b.keepConfig() // a crash in between brings this one back
		b.place.recreating.Store(true)
		defer b.keepConfig()
		defer b.place.recreating.Store(false)
		ready = b.fenced().Renew
	}
	if err := wire.RecreateLog(ctx, b.js, first, ready); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return b.learnIdentity(ctx)
}

// enabled checks what the engine has opened after its restart in this process; failed is
// why it did not restart, and full says that the disk watch refuses appends. A Log that is not open is never created anew: that would hide
// its loss. The disk watch finds the stream unhealthy and restarts the engine again, each
// time after settleStore has put the Log back.
func (b *Broker) enabled(failed error, full bool) {
	err := failed
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = b.checkLog(ctx)
	}
	if err != nil && b.cfg.Cluster == nil && errors.Is(err, jetstream.ErrStreamNotFound) {
		err = &NotOpenError{b.cfg.Dir, b.log.Unopened()}
	}
	was := b.lost()
	if err == nil {
		if was != nil {
			b.place.lost.Store(nil)
			b.refuseLost(nil, full)
			b.cfg.Logger.Info("the Log is open again")
		}
		return
	}
	b.place.lost.Store(&err)
	b.refuseLost(err, full)
	if was == nil || was.Error() != err.Error() {
		b.cfg.Logger.Error("the Log is not usable after the restart of JetStream", "err", err)
	}
}

// lost is why the Log is not open since the last restart of the engine; nil: it is.
func (b *Broker) lost() error {
	if p := b.place.lost.Load(); p != nil {
		return *p
	}
	return nil
}

// refuseLost answers appends with why, instead of leaving them without an answer; nil:
// they go to the Log again, unless the disk watch leads them elsewhere.
func (b *Broker) refuseLost(why error, full bool) {
	acc, err := b.logAccount()
	if err != nil {
		return // the server is shutting down
	}
	err = b.appends.Answer(b.admin, redirect.Lost, notOpen(why))
	switch {
	case why == nil && !full:
		err = b.appends.Lead(acc, redirect.Log)
	case why != nil && err == nil:
		err = b.appends.Lead(acc, redirect.Lost)
	}
	if err != nil {
		b.cfg.Logger.Error("cannot refuse appends", "err", err)
	}
}

// notOpen is the answer in the engine's own form, so that any client understands.
func notOpen(why error) []byte {
	if why == nil {
		return nil
	}
	words, err := json.Marshal(why.Error())
	if err != nil {
		return nil
	}
	return fmt.Appendf(nil, `{"stream":%q,"seq":0,"error":{"code":404,"err_code":%d,"description":%s}}`,
		wire.LogName, uint16(server.JSStreamNotFoundErr), words)
}
