package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"

	"durablestream/internal/wire"
)

// diskWatch refuses appends before the disk is full, and takes them again when
// there is space.
//
// A JetStream stream whose disk has run full times out on every append and stays
// so after space is freed (nothing acknowledged is lost). So the watch acts on
// free space under the floor: it limits the account's storage to one byte, upon
// which the engine refuses appends at once with an error of its own, and reads go
// on. Should the disk run full between two looks all the same, the stream reports
// itself unhealthy; the watch then switches JetStream off and on in this process
// once there is space, which mends it. Clients stay connected throughout.
type diskWatch struct {
	b     *Broker
	free  func() (int64, error) // bytes; a test's own in tests
	state atomic.Pointer[DiskState]
	// unhealthy counts looks in a row that found the stream stuck with space left.
	unhealthy int
	quit      chan struct{}
	done      chan struct{}
}

// DiskState is what the watch saw last.
type DiskState struct {
	Free  int64 // bytes; -1 if it cannot be read
	Floor int64 // bytes
	Full  bool  // appends are refused
}

// diskEvery is well under the second within which appends must be refused.
const (
	diskEvery      = 250 * time.Millisecond
	unhealthyLooks = 2
)

func watchDisk(b *Broker) *diskWatch {
	return startWatch(b, func() (int64, error) { return freeSpace(b.cfg.Dir) })
}

func startWatch(b *Broker, free func() (int64, error)) *diskWatch {
	w := &diskWatch{
		b:    b,
		free: free,
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	w.state.Store(&DiskState{Free: -1, Floor: b.cfg.DiskFloor})
	if b.cfg.DiskFloor < 0 {
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
	free, err := w.free()
	if err != nil {
		w.b.cfg.Logger.Warn("cannot read the free disk space", "dir", w.b.cfg.Dir, "err", err)
		w.state.Store(&DiskState{Free: -1, Floor: was.Floor, Full: was.Full})
		return
	}
	now := DiskState{Free: free, Floor: was.Floor, Full: was.Full}
	switch {
	case !was.Full && free < was.Floor:
		now.Full = w.refuse(true) == nil
	case was.Full && free >= was.Floor+was.Floor/4: // a margin, so that it does not flap
		w.mend()
		now.Full = w.refuse(false) != nil
	case !was.Full && w.healthy():
		w.unhealthy = 0
	case !was.Full:
		if w.unhealthy++; w.unhealthy >= unhealthyLooks {
			w.mend()
		}
	}
	if now.Full != was.Full {
		w.b.cfg.Logger.Warn("disk watch", "free", free, "floor", was.Floor, "appends_refused", now.Full)
	}
	w.state.Store(&now)
}

// refuse turns the engine's refusal of appends on or off.
func (w *diskWatch) refuse(on bool) error {
	store := int64(-1)
	if on {
		store = 1
	}
	acc := w.b.server.GlobalAccount()
	err := acc.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: store, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1},
	})
	if err != nil {
		w.b.cfg.Logger.Error("cannot change the storage limit", "err", err)
	}
	return err
}

func (w *diskWatch) healthy() bool {
	h := w.b.server.Healthz(&server.HealthzOptions{Account: w.b.server.GlobalAccount().Name, Stream: wire.LogName})
	return h.Status == "ok"
}

// mend restarts JetStream inside the server if the stream is stuck.
func (w *diskWatch) mend() {
	if w.healthy() {
		return
	}
	w.b.cfg.Logger.Warn("the stream is stuck after a full disk: restarting JetStream in this process")
	w.restartEngine()
}

// restartEngine switches JetStream off and on for the account of the Log. To do so
// for the whole server would race with API requests under way (the race detector
// says so of v2.15.2) and leave two goroutines behind each time.
func (w *diskWatch) restartEngine() {
	acc := w.b.server.GlobalAccount()
	if err := acc.DisableJetStream(); err != nil {
		w.b.cfg.Logger.Error("cannot stop JetStream", "err", err)
	}
	if err := acc.EnableJetStream(nil, nil); err != nil {
		w.b.cfg.Logger.Error("cannot start JetStream again", "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.b.openLog(ctx); err != nil {
		w.b.cfg.Logger.Error("the Log is not usable after the restart of JetStream", "err", err)
	}
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // Bsize is an int32 on other systems
}
