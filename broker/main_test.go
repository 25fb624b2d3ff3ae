package broker_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/goleak"

	"durablestream/broker"
)

// hostDir makes this test binary a host of that directory instead: see child.
const hostDir, hostMode = "BROKER_TEST_DIR", "BROKER_TEST_MODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDir); dir != "" {
		child(dir, os.Getenv(hostMode))
		return
	}
	code := m.Run()
	if code == 0 {
		if err := noLeaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// engineFlush is a goroutine of the engine's: a batch that is committed just while
// the server stops can leave the flusher of its block behind (nats-server v2.15.2,
// spinUpFlushLoopLocked), asleep. It is not ours to end.
var engineFlush = goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop")

// noLeaks waits for every goroutine to end. The engine keeps those of a batch that
// was on its way when it stopped for 10 s more.
func noLeaks() error {
	for end := time.Now().Add(15 * time.Second); ; {
		if err := goleak.Find(engineFlush); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// child holds the lock of dir, drops every variable that leads to it, collects
// garbage, says so, and waits until its stdin ends. In mode "lock" it holds the
// bare lock, as a program would that keeps no reference to it.
func child(dir, mode string) {
	func() {
		if mode == "lock" {
			ok, err := flock.New(filepath.Join(dir, broker.LockFile)).TryLock()
			fmt.Fprintln(os.Stderr, "bare lock:", ok, err)
			return
		}
		b, err := broker.Start(context.Background(), broker.Config{Dir: dir, DiskFloor: -1})
		if err == nil {
			err = b.Advertise()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	for range 5 {
		runtime.GC()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}
