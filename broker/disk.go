package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/redirect"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// diskWatch refuses appends before the disk is full, and takes them again when
// there is space.
//
// A JetStream stream whose disk has run full times out on every append and stays
// so after space is freed (nothing acknowledged is lost). So the watch acts on
// free space under the floor: it leads what is published to the Log elsewhere, where
// this process answers that the disk is full, and reads go on. Should the disk run
// full between two looks all the same, the stream reports itself unhealthy; the
// watch then switches JetStream off and on in this process once there is space,
// which mends it. Clients stay connected throughout.
//
// Bytes are not all that a block file takes. The file system may have no inode left, or
// be read-only; the user's quota or the process's file size limit may be used up. The
// file system tells of the first two. For the rest the watch makes a file of a block's
// size beside the blocks: each probeEvery, and before it restarts the engine. The engine
// is never restarted where that file cannot be made: its recovery writes too, and a
// stream whose recovery fails cannot even be read.
//
// A limit on the account's storage would refuse appends too, but the engine looks
// at it for each message of a batch that it commits: it stored the first 41 of 100
// when the limit came in between, and one of any batch into an empty Log. What is
// led elsewhere never reaches the engine. A batch that is on its way meanwhile
// misses its end, or has a hole, and is forgotten as a whole.
type diskWatch struct {
	b     *Broker
	see   func() (room.Room, error) // a test's own in tests
	probe func(sync bool) error     // the same
	state atomic.Pointer[DiskState]
	// unhealthy counts looks in a row that found the stream stuck with space left,
	// and mends what was done about it in vain.
	unhealthy, mends int
	probed           time.Time // when the last file of a block's size was made, or not
	behind           error     // of refuseBehindPart
	quit             chan struct{}
	done             chan struct{}
}

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
	torn       string // with LackBatch: see Broker.Torn
}

// diskEvery is well under the second within which appends must be refused.
const (
	diskEvery      = 250 * time.Millisecond
	unhealthyLooks = 2 // before the first mend; twice as many before each further one
	unhealthyMost  = 5 // times, which makes 16 s
	// probeEvery bounds how long a quota that is used up goes unseen, and probeAgain how
	// long one that has room again.
	probeEvery = 10 * time.Second
	probeAgain = time.Second
)

func watchDisk(b *Broker) (*diskWatch, error) {
	if b.cfg.ReadOnly {
		return refuseForGood(b)
	}
	w := startWatch(b, b.cfg.DiskFloor, func() (room.Room, error) { return room.Of(b.streamDir()) },
		func(sync bool) error { return room.Probe(b.streamDir(), sync) })
	return w, w.behind
}

// refuseForGood watches nothing, and refuses appends as to a disk that is read-only: what
// was appended to a copy would be lost with it.
func refuseForGood(b *Broker) (*diskWatch, error) {
	w := &diskWatch{b: b, quit: make(chan struct{}), done: make(chan struct{})}
	close(w.done)
	now := DiskState{Free: -1, Floor: b.cfg.DiskFloor, Inodes: -1, Full: true, Lack: LackWriting}
	w.state.Store(&now)
	if err := w.refuse(now); err != nil {
		return nil, fmt.Errorf("broker: cannot refuse appends to a copy: %w", err)
	}
	return w, nil
}

func startWatch(b *Broker, floor int64, see func() (room.Room, error), probe func(sync bool) error) *diskWatch {
	w := &diskWatch{
		b: b, see: see, probe: probe,
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	w.state.Store(&DiskState{Free: -1, Floor: floor, Inodes: -1})
	w.behind = w.refuseBehindPart()
	if floor < 0 {
		close(w.done)
		return w
	}
	w.look()
	go w.run()
	return w
}

// Disk is what is known of the free space.
func (b *Broker) Disk() DiskState { return *b.disk.state.Load() }

func (w *diskWatch) stop() {
	close(w.quit)
	<-w.done
}

func (w *diskWatch) run() {
	defer close(w.done)
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-tick.C:
			w.look()
		}
	}
}

func (w *diskWatch) look() {
	was := *w.state.Load()
	now := was
	r, err := w.see()
	if err != nil {
		w.b.cfg.Logger.Warn("cannot read the free disk space", "dir", w.b.cfg.Dir, "err", err)
		now.Free, now.Inodes = -1, -1
		w.state.Store(&now)
		return
	}
	now.Free, now.Inodes, now.InodeFloor = r.Free, r.Inodes, r.InodeFloor()
	if now.Lack = Lack(r.Lacks(was.Floor, was.Full)); w.b.cfg.Cluster != nil {
		w.stepAside(was, &now, r)
	} else {
		w.decide(was, &now, r)
	}
	if now.Full != was.Full || now.Lack != was.Lack {
		w.b.cfg.Logger.Warn("disk watch", "free", now.Free, "floor", now.Floor, "inodes", now.Inodes, "lacks", string(now.Lack), "appends_refused", now.Full)
	}
	if now.Blocked != "" && now.Blocked != was.Blocked {
		w.b.cfg.Logger.Error("the engine takes no appends and is not restarted: a file of a block's size cannot be made", "err", now.Blocked)
	}
	w.state.Store(&now)
}

// decide is what a lone host does about what it has seen: now.Lack, on the way in, is what
// the file system says.
func (w *diskWatch) decide(was DiskState, now *DiskState, r room.Room) {
	torn := w.b.torn.Load()
	switch {
	case torn != nil && torn.gone:
		now.Lack = LackBatch
	case now.Lack != LackNothing:
	case torn != nil && time.Now().Before(torn.again):
		now.Lack = w.tornLack(torn)
	case was.Full || torn != nil:
		if w.hasRoom(was, now, r, probeAgain) {
			w.mend()
			w.mended(was, now)
			return
		}
		if torn != nil && now.Lack == LackNothing {
			now.Lack = w.tornLack(torn)
		}
	case !w.healthy():
		if w.unhealthy++; w.unhealthy < unhealthyLooks<<min(w.mends, unhealthyMost) {
			return
		}
		w.unhealthy = 0
		w.mends++
		if w.hasRoom(was, now, r, 0) {
			w.mend()
			w.mended(was, now)
			return
		}
	default:
		w.unhealthy, w.mends, now.Blocked = 0, 0, ""
		if time.Since(w.probed) > probeEvery && r.Free >= room.Size {
			w.probed = time.Now()
			now.Lack = Lack(r.LackOf(w.probe(false)))
		}
	}
	if now.Lack != LackNothing && (!was.Full || was.Lack != now.Lack) {
		now.Full = w.refuse(*now) == nil || was.Full
	}
}

// hasRoom reports whether a file of a block's size can be made, which it tries at most
// each again. Where it cannot, now says why.
func (w *diskWatch) hasRoom(was DiskState, now *DiskState, r room.Room, again time.Duration) bool {
	now.Lack, now.Blocked = was.Lack, was.Blocked
	if r.Free < room.Size+w.b.batches().Needs() {
		now.Lack = LackSpace
		return false
	}
	if time.Since(w.probed) < again {
		return false
	}
	w.probed = time.Now()
	err := w.probe(true)
	now.Lack, now.Blocked = Lack(r.LackOf(err)), ""
	if err != nil && now.Lack == LackNothing {
		now.Lack, now.Blocked = was.Lack, err.Error()
	}
	return err == nil
}

// why says in words what appends are refused for.
func (s DiskState) why() string {
	switch s.Lack {
	case LackInodes:
		return fmt.Sprintf("the host's file system takes no more files: %d inodes are free, under the floor of %d", s.Inodes, s.InodeFloor)
	case LackQuota:
		return "the disk quota of the host's user is used up: a block file of 8 MiB cannot be made"
	case LackFileSize:
		return "the host may not write files of 8 MiB: raise its file size limit (ulimit -f) and start it again"
	case LackWriting:
		return "the host's disk is read-only"
	case LackBatch:
		return s.torn
	default:
		return "the host's disk is nearly full"
	}
}

// refusal is the answer in the engine's own form, so that any client understands.
func (s DiskState) refusal() []byte {
	code := wire.StatusDiskFull
	switch s.Lack {
	case LackWriting:
		code = wire.StatusReadOnly
	case LackBatch:
		code = wire.StatusTorn
	}
	return fmt.Appendf(nil, `{"stream":%q,"seq":0,"error":{"code":%d,"err_code":%d,"description":%q}}`, wire.LogName, code, wire.CodeDiskFull, s.why())
}

// refuse turns the refusal of appends on where now.Lack says what for, and off where
// nothing is lacking.
func (w *diskWatch) refuse(now DiskState) error {
	on := now.Lack != LackNothing
	now.torn = w.b.Torn()
	err := w.b.appends.Answer(w.b.admin, redirect.Refused, now.refusal())
	acc, lookup := w.b.logAccount()
	if lookup != nil {
		return lookup // the server is shutting down
	}
	switch {
	case !on && w.b.lost() != nil: // then they stay led where that is said
	case !on:
		err = errors.Join(err, w.b.appends.Lead(acc, redirect.Log))
	case err == nil:
		err = w.b.appends.Lead(acc, redirect.Refused)
	}
	if err != nil {
		w.b.cfg.Logger.Error("cannot refuse appends", "err", err)
	}
	return err
}

func (w *diskWatch) healthy() bool {
	h := w.b.server.Healthz(&server.HealthzOptions{Account: w.b.cfg.account(), Stream: wire.LogName})
	return h.Status == "ok"
}

// Stuck says why the engine of a lone host takes no appends although nothing refuses
// them, as after a full disk; "": it is well. The watch over the disk mends that.
func (b *Broker) Stuck() string {
	if b.cfg.Cluster != nil || b.Disk().Full {
		return ""
	}
	if why := b.lost(); why != nil {
		return why.Error()
	}
	h := b.server.Healthz(&server.HealthzOptions{Account: b.cfg.account(), Stream: wire.LogName})
	if h.Status == "ok" {
		return ""
	}
	why := cmp.Or(h.Error, h.Status)
	if blocked := b.Disk().Blocked; blocked != "" {
		why += ": " + blocked
	}
	return why
}

// mend restarts JetStream inside the server if the stream is stuck, or ends with a part of a
// batch.
func (w *diskWatch) mend() {
	torn := w.b.torn.Load()
	if healthy := w.healthy(); healthy && (torn == nil || torn.part == nil) {
		ctx, cancel := context.WithTimeout(context.Background(), endWait)
		defer cancel()
		part, err := w.b.end(ctx)
		switch {
		case err != nil:
			w.b.torn.Store(&tornEnd{again: time.Now().Add(tornAgain)})
			return
		case part == nil:
			w.b.torn.Store(nil)
			return
		}
	}
	w.b.cfg.Logger.Warn("the stream is stuck after a full disk: restarting JetStream in this process")
	w.restartEngine()
}

// restartEngine switches JetStream off and on for the account of the Log. To do so
// for the whole server would race with API requests under way (the race detector
// says so of v2.15.2) and leave two goroutines behind each time.
//
// A batch whose commit met the full disk is stored in part, and the engine completes
// it, from what it had staged, when it starts: see torn.go. Until that was seen no append
// gets in.
func (w *diskWatch) restartEngine() {
	b := w.b
	if b.place.recreating.Load() {
		return
	}
	err := b.holdAppends(b.server)
	acc, lookup := b.logAccount()
	err = errors.Join(err, lookup)
	if err == nil {
		err = b.putAside()
	}
	if err == nil && acc.JetStreamEnabled() { // else the last restart did not get far
		err = acc.DisableJetStream()
	}
	if err == nil {
		err = b.settleStore()
	}
	if err == nil {
		err = b.forgetUnwritten()
	}
	if err == nil {
		err = b.lend()
	}
	if err == nil {
		err = acc.EnableJetStream(nil, nil)
	}
	full := w.state.Load().Full
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), endWait)
		defer cancel()
		if look := b.lookAtEnd(ctx); look != nil {
			b.cfg.Logger.Warn("the end of the log cannot be read", "err", look) // or enabled says more
		}
	}
	b.enabled(err, full || b.torn.Load() != nil)
	if !full && b.torn.Load() == nil && b.lost() == nil {
		_ = b.appends.Lead(acc, redirect.Log) // nothing of that can fail
	}
}
