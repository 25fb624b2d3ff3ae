// Package diskwatch refuses appends before a host's disk is full, and takes them again when
// there is space.
//
// A JetStream stream whose disk has run full times out on every append and stays
// so after space is freed (nothing acknowledged is lost). So the watch acts when free
// space falls under the floor: it leads appends away from the Log to this process, which
// answers that the disk is full, and reads go on. If the disk runs full between two looks
// all the same, the stream reports itself unhealthy. Once there is space, the watch then
// restarts JetStream in this process, which repairs the stream. Clients stay connected
// throughout.
//
// A block file needs more than bytes. The file system may have no inode left, or be
// read-only; the user's quota or the process's file size limit may be used up. The file
// system reports the first two. To find the others, the watch writes a file of a block's
// size beside the blocks, each probeEvery and before it restarts the engine. It never
// restarts the engine while it cannot write that file: the engine's recovery writes too,
// and a stream whose recovery fails cannot even be read.
//
// A limit on the account's storage would refuse appends too, but the engine checks that
// limit for each message of a batch that it commits: it stored the first 41 of 100
// when the limit came in between, and one of any batch into an empty Log. An append that
// the watch leads away never reaches the engine. A batch that is half sent at that moment
// lacks its end, or has a hole, and the engine forgets it as a whole.
package diskwatch

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"durablestream/internal/logend"
	"durablestream/internal/room"
)

// Broker is the watch's view of its broker.
type Broker struct {
	Dir    string // the host's directory
	Floor  int64  // bytes; negative: do not watch the disk
	Logger *slog.Logger
	// See measures the file system; Probe writes a file of a block's size and removes it.
	See   func() (room.Room, error)
	Probe func(sync bool) error
	End   *logend.End
	// Refuse leads appends to the answer if on is true, and to the Log otherwise.
	Refuse func(on bool, answer []byte) error
	// Node is nil for a lone host. The fields below are for a lone host only.
	Node    *Node
	Healthy func() bool     // whether the engine reports the Log as healthy
	Lost    func() bool     // whether the engine has not opened the Log since its restart
	Restart func(full bool) // restarts the engine; full: while the watch refuses appends
}

// Watch is a watch over one disk.
type Watch struct {
	b     Broker
	state atomic.Pointer[State]
	// unhealthy counts looks in a row that found the stream stuck with space left;
	// repairs counts restarts that did not help.
	unhealthy, repairs int
	probed             time.Time // when the watch last tried to write the file
	quit               chan struct{}
	done               chan struct{}
}

// diskEvery is well under the second within which appends must be refused.
const (
	diskEvery      = 250 * time.Millisecond
	unhealthyLooks = 2 // unhealthy looks before the first repair; twice as many before each further one
	unhealthyMost  = 5 // doublings, which makes 16 s
	// probeEvery is the longest time until the watch notices a used-up quota; probeAgain is
	// the longest time until it notices that the quota has room again.
	probeEvery = 10 * time.Second
	probeAgain = time.Second
)

// Start looks at the disk once, and then watches it until Stop. An error means that the watch
// cannot refuse appends behind a part of a batch; the watch runs all the same.
func Start(b Broker) (*Watch, error) {
	w := &Watch{b: b, quit: make(chan struct{}), done: make(chan struct{})}
	w.state.Store(&State{Free: -1, Floor: b.Floor, Inodes: -1})
	err := w.refuseBehindPart()
	if b.Floor < 0 {
		close(w.done)
		return w, err
	}
	w.look()
	go w.run()
	return w, err
}

// RefuseForGood watches nothing and refuses all appends, as a read-only disk does: an append to
// a copy would be lost with the copy.
func RefuseForGood(b Broker) (*Watch, error) {
	w := &Watch{b: b, quit: make(chan struct{}), done: make(chan struct{})}
	close(w.done)
	now := State{Free: -1, Floor: b.Floor, Inodes: -1, Full: true, Lack: room.LackWriting}
	w.state.Store(&now)
	if err := w.refuse(now); err != nil {
		return nil, fmt.Errorf("cannot refuse appends to a copy: %w", err)
	}
	return w, nil
}

// State returns the result of the last look.
func (w *Watch) State() State { return *w.state.Load() }

// Stop ends the watch. Appends that it refuses stay refused.
func (w *Watch) Stop() {
	close(w.quit)
	<-w.done
}

func (w *Watch) run() {
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

func (w *Watch) look() {
	was := *w.state.Load()
	now := was
	r, err := w.b.See()
	if err != nil {
		w.b.Logger.Warn("cannot read the free disk space", "dir", w.b.Dir, "err", err)
		now.Free, now.Inodes = -1, -1
		w.state.Store(&now)
		return
	}
	now.Free, now.Inodes, now.InodeFloor = r.Free, r.Inodes, r.InodeFloor()
	if now.Lack = r.Lacks(was.Floor, was.Full); w.b.Node != nil {
		w.stepAside(was, &now, r)
	} else {
		w.decide(was, &now, r)
	}
	if now.Full != was.Full || now.Lack != was.Lack {
		w.b.Logger.Warn("disk watch", "free", now.Free, "floor", now.Floor, "inodes", now.Inodes, "lacks", string(now.Lack), "appends_refused", now.Full)
	}
	if now.Blocked != "" && now.Blocked != was.Blocked {
		w.b.Logger.Error("the engine takes no appends and is not restarted: a file of a block's size cannot be made", "err", now.Blocked)
	}
	w.state.Store(&now)
}

// decide acts on a look, for a lone host. At the call, now.Lack is the file system's own
// answer.
func (w *Watch) decide(was State, now *State, r room.Room) {
	torn := w.b.End.Torn()
	switch {
	case torn != nil && torn.Gone():
		now.Lack = room.LackBatch
	case now.Lack != room.LackNothing:
	case torn != nil && torn.Early():
		now.Lack = now.lackOf(torn)
	case was.Full || torn != nil:
		if w.hasRoom(was, now, r, probeAgain) {
			w.repair()
			w.repaired(was, now)
			return
		}
		if torn != nil && now.Lack == room.LackNothing {
			now.Lack = now.lackOf(torn)
		}
	case !w.b.Healthy():
		if !w.unhealthyLongEnough() {
			return
		}
		if w.hasRoom(was, now, r, 0) {
			w.repair()
			w.repaired(was, now)
			return
		}
	default:
		w.idle(now, r)
	}
	if now.Lack != room.LackNothing && (!was.Full || was.Lack != now.Lack) {
		now.Full = w.refuse(*now) == nil || was.Full
	}
}

// idle writes the file of a block's size now and then, while nothing is wrong.
func (w *Watch) idle(now *State, r room.Room) {
	w.unhealthy, w.repairs, now.Blocked = 0, 0, ""
	if time.Since(w.probed) > probeEvery && r.Free >= room.Size {
		w.probed = time.Now()
		now.Lack = r.LackOf(w.b.Probe(false))
	}
}

// unhealthyLongEnough counts a look that found the engine stuck, and reports whether it is time
// for a repair.
func (w *Watch) unhealthyLongEnough() bool {
	if w.unhealthy++; w.unhealthy < unhealthyLooks<<min(w.repairs, unhealthyMost) {
		return false
	}
	w.unhealthy = 0
	w.repairs++
	return true
}

// hasRoom reports whether the disk takes a file of a block's size. It tries that at most once in
// the time again. If the disk does not, hasRoom puts the reason into now.
func (w *Watch) hasRoom(was State, now *State, r room.Room, again time.Duration) bool {
	now.Lack, now.Blocked = was.Lack, was.Blocked
	if r.Free < room.Size+w.b.End.Batches.Needs() {
		now.Lack = room.LackSpace
		return false
	}
	if time.Since(w.probed) < again {
		return false
	}
	w.probed = time.Now()
	err := w.b.Probe(true)
	now.Lack, now.Blocked = r.LackOf(err), ""
	if err != nil && now.Lack == room.LackNothing {
		now.Lack, now.Blocked = was.Lack, err.Error()
	}
	return err == nil
}

// refuse refuses appends if the disk lacks something, and takes them otherwise.
func (w *Watch) refuse(now State) error {
	return w.b.Refuse(now.Lack != room.LackNothing, now.Refusal(w.b.End.Why()))
}

// refuseBehindPart refuses appends at the watch's start if the Log ends with a part of a batch:
// the engine would store them behind the part.
func (w *Watch) refuseBehindPart() error {
	torn := w.b.End.Torn()
	if torn == nil {
		return nil
	}
	now := *w.state.Load()
	now.Full, now.Lack = true, now.lackOf(torn)
	w.state.Store(&now)
	if err := w.refuse(now); err != nil {
		return errors.Join(errors.New("cannot refuse appends behind a batch that is stored in part"), err)
	}
	return nil
}

// repair restarts JetStream inside the server if the stream is stuck, or ends with a part of a
// batch.
func (w *Watch) repair() {
	if w.b.Healthy() && w.b.End.Reread() {
		return
	}
	w.b.Logger.Warn("the stream is stuck after a full disk: restarting JetStream in this process")
	w.b.Restart(w.state.Load().Full)
}

// repaired takes appends again after repair. It goes on refusing them if the engine has again
// stored only a part of a batch. If the Log is not open, the broker refuses them itself.
func (w *Watch) repaired(was State, now *State) {
	now.Lack = room.LackNothing
	torn := w.b.End.Torn()
	if torn != nil && !w.b.Lost() {
		now.Lack = now.lackOf(torn)
		now.Full = w.refuse(*now) == nil || was.Full
		return
	}
	now.Full = w.refuse(*now) != nil
}
