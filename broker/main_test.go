package broker_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"durablestream/broker"
	"durablestream/internal/brokertest"
)

// hostDir makes this test binary a host of that directory instead: see child.
const hostDir, hostMode = "BROKER_TEST_DIR", "BROKER_TEST_MODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDir); dir != "" {
		child(dir, os.Getenv(hostMode))
		return
	}
	brokertest.Main(m)
}

// child holds the lock of dir, drops every variable that leads to it, collects
// garbage, says so, and waits until its stdin ends. In mode "lock" it holds the
// bare lock, as a program would that keeps no reference to it. In mode "fsize" it may
// write only small files.
func child(dir, mode string) {
	func() {
		if mode == "lock" {
			ok, err := flock.New(filepath.Join(dir, broker.LockFile)).TryLock()
			fmt.Fprintln(os.Stderr, "bare lock:", ok, err)
			return
		}
		cfg := broker.Config{Dir: dir, DiskFloor: -1}
		if mode == "fsize" {
			cfg.DiskFloor = 1 << 20
			small := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
			fmt.Fprintln(os.Stderr, "limit:", unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
		}
		b, err := broker.Start(context.Background(), cfg)
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
