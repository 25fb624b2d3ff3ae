package broker

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

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
// A limit on the account's storage would refuse appends too, but the engine looks
// at it for each message of a batch that it commits: it stored the first 41 of 100
// when the limit came in between, and one of any batch into an empty Log. What is
// led elsewhere never reaches the engine. A batch that is on its way meanwhile
// misses its end, or has a hole, and is forgotten as a whole.
type diskWatch struct {
	b     *Broker
	free  func() (int64, error) // bytes; a test's own in tests
	state atomic.Pointer[DiskState]
	// unhealthy counts looks in a row that found the stream stuck with space left,
	// and mends what was done about it in vain.
	unhealthy, mends int
	answers          *nats.Subscription // ends with the admin connection
	quit             chan struct{}
	done             chan struct{}
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
	unhealthyLooks = 2 // before the first mend; twice as many before each further one
	unhealthyMost  = 5 // times, which makes 16 s
)

func watchDisk(b *Broker) *diskWatch {
	return startWatch(b, b.cfg.DiskFloor, func() (int64, error) { return freeSpace(b.cfg.Dir) })
}

func startWatch(b *Broker, floor int64, free func() (int64, error)) *diskWatch {
	w := &diskWatch{
		b:    b,
		free: free,
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	w.state.Store(&DiskState{Free: -1, Floor: floor})
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
	free, err := w.free()
	if err != nil {
		w.b.cfg.Logger.Warn("cannot read the free disk space", "dir", w.b.cfg.Dir, "err", err)
		w.state.Store(&DiskState{Free: -1, Floor: was.Floor, Full: was.Full})
		return
	}
	now := DiskState{Free: free, Floor: was.Floor, Full: was.Full}
	switch {
	case w.b.cfg.Cluster != nil:
		now.Full = w.stepAside(free, was.Floor)
	case !was.Full && free < was.Floor:
		now.Full = w.refuse(true) == nil
	case was.Full && free >= was.Floor+was.Floor/4: // a margin, so that it does not flap
		w.mend()
		now.Full = w.refuse(false) != nil
	case !was.Full && w.healthy():
		w.unhealthy, w.mends = 0, 0
	case !was.Full:
		if w.unhealthy++; w.unhealthy >= unhealthyLooks<<min(w.mends, unhealthyMost) {
			w.unhealthy = 0
			w.mends++
			w.mend()
		}
	}
	if now.Full != was.Full {
		w.b.cfg.Logger.Warn("disk watch", "free", free, "floor", was.Floor, "appends_refused", now.Full)
	}
	w.state.Store(&now)
}

// refused is where publishes to the Log are led while they are refused.
const refused = "dstream.refused."

// diskFull is the answer in the engine's own form, so that any client understands.
var diskFull = fmt.Appendf(nil,
	`{"stream":%q,"seq":0,"error":{"code":503,"err_code":%d,"description":"the host's disk is nearly full"}}`,
	wire.LogName, wire.CodeDiskFull)

// refuse turns the refusal of appends on or off.
func (w *diskWatch) refuse(on bool) error {
	err := w.answer()
	acc, lookup := w.b.logAccount()
	if lookup != nil {
		return lookup // the server is shutting down
	}
	for _, subject := range []string{wire.AllEvents, wire.AllGuards} {
		switch {
		case !on:
			acc.RemoveMapping(subject)
		case err == nil:
			err = acc.AddMapping(subject, refused+subject)
		}
	}
	if err != nil {
		w.b.cfg.Logger.Error("cannot refuse appends", "err", err)
	}
	return err
}

// answer sees to it that what is refused is answered.
func (w *diskWatch) answer() error {
	if w.answers != nil {
		return nil
	}
	sub, err := w.b.admin.Subscribe(refused+">", func(m *nats.Msg) {
		if m.Reply != "" {
			// An error is a lost connection, which the asker notices itself.
			_ = m.Respond(diskFull)
		}
	})
	if err != nil {
		return err
	}
	if err := w.b.admin.FlushTimeout(time.Second); err != nil {
		return errors.Join(err, sub.Unsubscribe())
	}
	w.answers = sub
	return nil
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
	return cmp.Or(h.Error, h.Status)
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
//
// A batch whose commit met the full disk is stored in part, and the engine completes
// it, from what it had staged, when it starts. But it deletes what is staged when
// only an account is switched off: so that is put aside meanwhile.
func (w *diskWatch) restartEngine() {
	if w.b.place.recreating.Load() {
		return
	}
	acc, err := w.b.logAccount()
	if err == nil {
		err = moveAll(w.b.staged(), w.b.aside())
	}
	if err == nil && acc.JetStreamEnabled() { // else the last restart did not get far
		err = acc.DisableJetStream()
	}
	if err == nil {
		err = w.b.settleStore()
	}
	err = errors.Join(err, moveAll(w.b.aside(), w.b.staged()))
	if err == nil {
		err = acc.EnableJetStream(nil, nil)
	}
	w.b.enabled(err, w.state.Load().Full)
}

// staged is where the engine keeps the messages of batches that are not committed;
// aside is where they are while JetStream is switched off.
func (b *Broker) staged() string {
	return filepath.Join(b.cfg.Dir, StoreDir, server.JetStreamStoreDir, b.cfg.account(), "streams", wire.LogName, "batches")
}

func (b *Broker) aside() string { return filepath.Join(b.cfg.Dir, "batches") }

// moveAll moves what is in one directory into another. A crash in between leaves
// some here and some there: Start moves all back.
func moveAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	for _, e := range entries {
		if err == nil {
			err = os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot keep the batches that are under way: %w", err)
	}
	return os.Remove(from)
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // Bsize is an int32 on other systems
}
