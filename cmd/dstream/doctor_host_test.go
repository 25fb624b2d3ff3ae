package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/doctor"
	"durablestream/internal/wire"
)

func TestDoctorStaleAddress(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	wellAgain(t, dir)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_, out, found := doctorSays(t, dir)
	require.Equal(t, doctor.FoundAddress, found[0].Name)
	require.Contains(t, out, "(process "+strconv.Itoa(cmd.Process.Pid)+"): it was killed. Nothing is lost by that")
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "repaired: removed")
	require.NoFileExists(t, broker.AddressPath(filepath.Join(dir, durablestream.HostDir)))
	wellAgain(t, dir)
}

func TestDoctorLockHeldElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	wellAgain(t, dir)
	host := filepath.Join(dir, durablestream.HostDir)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	release, err := broker.Hold(host)
	require.NoError(t, err)
	_, out, found := doctorSays(t, dir)
	require.Equal(t, doctor.FoundLock, found[0].Name)
	require.False(t, found[0].Sure)
	require.Contains(t, out, "names the process "+strconv.Itoa(cmd.Process.Pid)+", which is not proven to hold it on this machine")
	require.Contains(t, out, "has not written its own address yet")
	require.Contains(t, out, "or the host is in another container")
	require.Contains(t, out, "(not sure)")
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status, out)

	require.NoError(t, os.Remove(broker.AddressPath(host)))
	_, out, found = doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundLock}, names(found))
	require.Contains(t, out, "nobody tells who hosts")
	require.NoError(t, release())
	wellAgain(t, dir)
}

func TestDoctorStoppedHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	wellAgain(t, dir)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGCONT) })
	require.Eventually(t, func() bool { return address.Stopped(cmd.Process.Pid) }, 5*time.Second, time.Millisecond)
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundStopped}, names(found))
	require.Contains(t, out, "process "+strconv.Itoa(cmd.Process.Pid)+", is stopped and holds up everybody")
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "repaired: it goes on")
	command(t, dir, "append", "task.created", "--stream", "s", "--actor", "a")
	wellAgain(t, dir)
}

func TestDoctorHalfRestored(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	_, err = d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "s", Actor: "a", Payload: []byte(`{}`)})
	require.NoError(t, err)
	js, err := jetstream.New(d.Admin().Conn())
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), wire.LogName)
	require.NoError(t, err)
	_, err = js.UpdateStream(t.Context(), wire.MarkRestoring(s.CachedInfo().Config, true))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	status, out, found := doctorSays(t, dir)
	require.Equal(t, exitFailed, status)
	require.Equal(t, []string{doctor.FoundRestore}, names(found))
	require.Contains(t, out, wire.ErrRestoring.Error())
}

func TestDoctorDiskFull(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	hosting(t, dir, hostPID, "--disk-floor", strconv.Itoa(1<<60))
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundDisk}, names(found))
	require.Contains(t, out, "appends are refused until there is space")
}

func TestDoctorUnreadable(t *testing.T) {
	t.Parallel()
	dir := ended(t, 3)
	host := filepath.Join(dir, durablestream.HostDir)
	require.NoError(t, os.Rename(host, host+".away"))
	require.NoError(t, os.WriteFile(host, nil, 0o600))
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundMount}, names(found))
	require.Contains(t, out, "its disk or mount is dead")
}

func TestDoctorUsage(t *testing.T) {
	t.Parallel()
	dir := ended(t, 3)
	status, _, words := dstream(t, "--dir", dir, "--server", "nats://127.0.0.1:1", "doctor")
	require.Equal(t, exitUsage, status)
	require.Contains(t, words, "--server is for the other nodes of a cluster")
	status, _, words = dstream(t, "--dir", dir+"/none", "doctor")
	require.Equal(t, exitFailed, status)
	require.Contains(t, words, "there is no log in")
}

// The store is gone, and the mirror is there.
func TestDoctorStoreGone(t *testing.T) {
	t.Parallel()
	dir := ended(t, 3)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, durablestream.HostDir)))
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundStore}, names(found))
	require.Contains(t, out, "makes the log again from the mirror")
}

func TestDoctorLeftovers(t *testing.T) {
	t.Parallel()
	dir := ended(t, 3)
	left := filepath.Join(dir, durablestream.HostDir, "address.1.tmp")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundLeftover}, names(found))
	require.Contains(t, out, left)
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	_, err := os.Stat(left)
	require.True(t, errors.Is(err, fs.ErrNotExist))
	wellAgain(t, dir)
}
