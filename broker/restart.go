package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/engine"
	"durablestream/internal/logend"
	"durablestream/internal/redirect"
	"durablestream/internal/staged"
	"durablestream/internal/wire"
)

// AsideDir is inside Config.Dir while the engine starts, and as long as the Log ends with a
// part of a batch.
const AsideDir = "batches"

// newEnd returns the Log's End. The engine has not started yet.
func (b *Broker) newEnd() *logend.End {
	return &logend.End{
		Batches: staged.Batches{
			Staged: filepath.Join(b.cfg.Dir, StoreDir, engine.StoreDir, b.cfg.account(), engine.StreamsDir, wire.LogName, engine.BatchesDir),
			Aside:  filepath.Join(b.cfg.Dir, AsideDir), Host: b.cfg.Dir, Logger: b.cfg.Logger,
		},
		Blocks: b.blocksDir(), Known: engineKnown(), Unwatched: b.cfg.DiskFloor < 0, Logger: b.cfg.Logger,
	}
}

// giveStaged prepares the staged batches for the engine, before the host starts it.
func (b *Broker) giveStaged() error {
	if b.cfg.ReadOnly || b.cfg.Cluster != nil { // a copy takes no appends; a node's raft log has the whole batch
		return nil
	}
	if err := b.putAside(); err != nil {
		return err
	}
	return b.end.Lend()
}

func (b *Broker) putAside() error {
	if err := b.end.Batches.PutAside(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// holdAppends keeps appends from the Log until the host has read the Log's end. Call it before
// the server starts its engine.
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

// lookAtEnd checks whether the Log that the engine has opened ends with a part of a batch. If
// not, and if the disk watch has not started yet, lookAtEnd lets appends reach the Log.
func (b *Broker) lookAtEnd(ctx context.Context) error {
	if b.cfg.Cluster != nil || b.cfg.ReadOnly {
		return nil
	}
	whole, err := b.end.Look(ctx)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	if !whole || b.disk != nil { // the disk watch takes appends again
		return nil
	}
	acc, err := b.logAccount()
	if err == nil {
		err = b.appends.Lead(acc, redirect.Log)
	}
	return err
}

// restartEngine switches JetStream off and on for the account of the Log; full says that appends
// are refused. To do so for the whole server would race with API requests under way (the race
// detector says so of v2.15.2) and leave two goroutines behind each time.
//
// A batch whose commit met the full disk is stored in part, and the engine completes
// it from its staged files when it starts: see package logend. No append reaches the Log until
// the host has read the Log's end.
func (b *Broker) restartEngine(full bool) {
	if b.place.recreating.Load() {
		return
	}
	err := b.holdAppends(b.server)
	acc, lookup := b.logAccount()
	err = errors.Join(err, lookup)
	if err == nil {
		err = b.putAside()
	}
	if err == nil && acc.JetStreamEnabled() { // else the last restart failed before it enabled JetStream
		err = acc.DisableJetStream()
	}
	if err == nil {
		err = b.settleStore()
	}
	if err == nil {
		err = b.forgetUnwritten()
	}
	if err == nil {
		err = b.end.Lend()
	}
	if err == nil {
		err = acc.EnableJetStream(nil, nil)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), logend.Wait)
		defer cancel()
		if look := b.lookAtEnd(ctx); look != nil {
			b.cfg.Logger.Warn("the end of the log cannot be read", "err", look) // or enabled says more
		}
	}
	torn := b.end.Torn() != nil
	b.enabled(err, full || torn)
	if !full && !torn && b.lost() == nil {
		_ = b.appends.Lead(acc, redirect.Log) // nothing of that can fail
	}
}

// leaveCluster takes the node's JetStream out of the cluster for the time being. To switch it off
// for the account only, as restartEngine does, or with DisableJetStream, would take the node out
// of the cluster for good. ShutdownJetStream keeps its place.
func (b *Broker) leaveCluster() error {
	b.switching.Lock()
	defer b.switching.Unlock()
	return b.server.ShutdownJetStream()
}

// comeBack switches the node's JetStream on again.
func (b *Broker) comeBack() {
	if err := b.switchOn(); err != nil {
		b.cfg.Logger.Error("cannot come back after a full disk", "err", err)
	}
}

func (b *Broker) switchOn() error {
	if err := b.checkMeta(); err != nil {
		return err
	}
	// The engine exchanges the queues of its API without a lock, which connections have
	// read before they were cut off from it. A look at each, under its lock, comes after that.
	if _, err := b.server.Routez(nil); err == nil {
		_, _ = b.server.Connz(nil)
	}
	if err := b.forgetUnwritten(); err != nil {
		return err
	}
	b.switching.Lock()
	defer b.switching.Unlock()
	return b.server.EnableJetStream(&server.JetStreamConfig{
		StoreDir:   filepath.Clean(b.opts.StoreDir),
		MaxMemory:  b.opts.JetStreamMaxMemory,
		MaxStore:   b.opts.JetStreamMaxStore,
		SyncAlways: b.opts.SyncAlways,
		Strict:     !b.opts.NoJetStreamStrict,
	})
}
