package broker

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/blocks"
	"durablestream/internal/diskwatch"
	"durablestream/internal/redirect"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// DiskState is what the watch saw last.
type DiskState struct {
	Free  int64 // bytes; -1 if it cannot be read
	Floor int64 // bytes
	// Inodes are free ones; -1 where the file system has no limit, or cannot be read.
	Inodes     int64
	InodeFloor int64
	Full       bool   // appends are refused
	Lack       Lack   // why; of a node of a cluster LackNothing where its engine stepped aside by itself
	Blocked    string // why the engine, which is stuck, is not restarted yet; "": nothing is known against it
}

func diskState(s diskwatch.State) DiskState {
	return DiskState{Free: s.Free, Floor: s.Floor, Inodes: s.Inodes, InodeFloor: s.InodeFloor, Full: s.Full, Lack: Lack(s.Lack), Blocked: s.Blocked}
}

// Disk is what is known of the free space.
func (b *Broker) Disk() DiskState { return diskState(b.disk.State()) }

// DiskIn looks at the disk of the host directory dir as a host with the default floor does at
// its start. The caller holds the lock: like a host, DiskIn makes the file of Probe for a
// moment. An error means that the file system gave no answer.
func DiskIn(dir string) (DiskState, error) {
	at := filepath.Join(dir, StoreDir)
	if found, _ := blocks.Find(at); len(found) > 0 { // none: the engine has not begun
		at = filepath.Dir(found[0])
	}
	s, err := diskwatch.In(at, defaultDiskFloor)
	return diskState(s), err
}

// Tell puts what is known of the disk into a host's status.
func (s DiskState) Tell(h *HostStatus) {
	h.DiskFree, h.DiskFloor = s.Free, s.Floor
	h.DiskInodes, h.DiskInodesFloor = s.Inodes, s.InodeFloor
	h.DiskReadOnly = s.Full && s.Lack == LackWriting
	h.DiskFull = s.Full && s.Lack != LackWriting && s.Lack != LackBatch
	if h.DiskFull {
		h.DiskLacks = s.Lack
	}
}

// Torn says in words why appends are refused behind a part of a batch at the Log's end; "":
// there is none.
func (b *Broker) Torn() string { return b.end.Why() }

// watchDisk starts the watch over the disk; over a copy, whose appends would be lost with it,
// one that only refuses.
func (b *Broker) watchDisk() (w *diskwatch.Watch, err error) {
	if b.cfg.ReadOnly {
		w, err = diskwatch.RefuseForGood(b.watched())
	} else {
		w, err = diskwatch.Start(b.watched())
	}
	if err != nil {
		err = fmt.Errorf("broker: %w", err)
	}
	return w, err
}

// watched is this broker for the watch over its disk.
func (b *Broker) watched() diskwatch.Broker {
	host := diskwatch.Broker{
		Dir: b.cfg.Dir, Floor: b.cfg.DiskFloor, Logger: b.cfg.Logger, End: b.end,
		See:     func() (room.Room, error) { return room.Of(b.streamDir()) },
		Probe:   func(sync bool) error { return room.Probe(b.streamDir(), sync) },
		Refuse:  b.refuse,
		Healthy: func() bool { return b.health().Status == "ok" },
		Lost:    func() bool { return b.lost() != nil },
		Restart: b.restartEngine,
	}
	if b.cfg.Cluster != nil {
		host.Node = &diskwatch.Node{On: b.server.JetStreamEnabled, Leave: b.leaveCluster, ComeBack: b.comeBack}
	}
	return host
}

func (b *Broker) health() *server.HealthStatus {
	return b.server.Healthz(&server.HealthzOptions{Account: b.cfg.account(), Stream: wire.LogName})
}

// refuse leads appends to an answer, or to the Log again.
func (b *Broker) refuse(on bool, answer []byte) error {
	err := b.appends.Answer(b.admin, redirect.Refused, answer)
	acc, lookup := b.logAccount()
	if lookup != nil {
		return lookup // the server is shutting down
	}
	switch {
	case !on && b.lost() != nil: // then they stay led where that is said
	case !on:
		err = errors.Join(err, b.appends.Lead(acc, redirect.Log))
	case err == nil:
		err = b.appends.Lead(acc, redirect.Refused)
	}
	if err != nil {
		b.cfg.Logger.Error("cannot refuse appends", "err", err)
	}
	return err
}

// Stuck says why the engine of a lone host takes no appends although nothing refuses
// them, as after a full disk; "": it is well. The watch over the disk repairs that.
func (b *Broker) Stuck() string {
	if b.cfg.Cluster != nil || b.Disk().Full {
		return ""
	}
	if why := b.lost(); why != nil {
		return why.Error()
	}
	h := b.health()
	if h.Status == "ok" {
		return ""
	}
	why := cmp.Or(h.Error, h.Status)
	if blocked := b.Disk().Blocked; blocked != "" {
		why += ": " + blocked
	}
	return why
}
