package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/address"
	"durablestream/internal/doctor"
	"durablestream/internal/wire"
)

// stranger is a log whose host is, as far as this machine can see, another process: its
// lock is held, and the address beside it names an innocent one, as the address of a host
// in another container may.
func stranger(t *testing.T) (dir string, innocent *exec.Cmd) {
	t.Helper()
	dir = ended(t, 3)
	host := filepath.Join(dir, durablestream.HostDir)
	release, err := broker.Hold(host)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, release()) })
	innocent = exec.Command("sleep", "600")
	require.NoError(t, innocent.Start())
	t.Cleanup(func() { _ = innocent.Process.Kill(); _ = innocent.Wait() })
	require.NoError(t, address.Write(broker.AddressPath(host), address.Address{
		URL: "nats://127.0.0.1:1", Token: "t", PID: innocent.Process.Pid, Format: wire.Format,
	}))
	return dir, innocent
}

func TestDoctorEndsNoStranger(t *testing.T) {
	t.Parallel()
	dir, innocent := stranger(t)
	mirror := durablestream.MirrorPath(dir)
	lines, err := os.ReadFile(mirror)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(mirror, bytes.Replace(lines, []byte(`"actor":"a`), []byte(`"actor":"b`), 1), 0o600))
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status, out)
	require.Contains(t, out, "no process of this machine is proven to hold the lock: end it where it runs")
	require.Contains(t, out, "nothing was changed")
	require.NoError(t, innocent.Process.Signal(syscall.Signal(0)))
	require.False(t, address.Stopped(innocent.Process.Pid))

	// A stranger that is stopped is not the host that holds up everybody.
	require.NoError(t, innocent.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return address.Stopped(innocent.Process.Pid) }, 5*time.Second, time.Millisecond)
	_, out, found := doctorSays(t, dir)
	require.NotContains(t, names(found), doctor.FoundStopped, out)
	_, out, _ = dstream(t, "--dir", dir, "status")
	require.NotContains(t, out, "is stopped")
	require.NotContains(t, out, "kill -")
	require.True(t, address.Stopped(innocent.Process.Pid))
}
