package broker_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/wire"
)

// powerDisk is an ext4 file system in an image whose power can be cut: what was
// written and not synced is gone.
type powerDisk struct{ dir, image string }

func newPowerDisk(t *testing.T) *powerDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system and cuts its power")
	}
	d := &powerDisk{dir: t.TempDir(), image: filepath.Join(t.TempDir(), "image")}
	require.NoError(t, os.WriteFile(d.image, nil, 0o600))
	require.NoError(t, os.Truncate(d.image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount an image here: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", d.dir).Run() }) // the test has failed where this is needed
	return d
}

// cut stops every write to the disk as it is, without what the kernel keeps.
func (d *powerDisk) cut(t *testing.T) {
	t.Helper()
	const ext4Shutdown, withoutLog = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(d.dir)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutLog))
}

// restore mounts the disk again, as after the power is back.
func (d *powerDisk) restore(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return unix.Unmount(d.dir, 0) == nil }, 15*time.Second, 10*time.Millisecond)
	// A copy is another device: a mount of the same image is the dead file system again while
	// another mount namespace holds it.
	fresh := d.image + ".fresh"
	out, err := exec.Command("cp", "--sparse=always", d.image, fresh).CombinedOutput()
	require.NoError(t, err, string(out))
	d.image = fresh
	out, err = exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput()
	require.NoError(t, err, string(out))
}

const beforeTheCut = 200

func TestAcknowledgedEventsOutliveAPowerCut(t *testing.T) {
	t.Parallel()
	disk := newPowerDisk(t)
	h := brokertest.Start(t, func(c *broker.Config) { c.Dir, c.DiskFloor = filepath.Join(disk.dir, "host"), -1 })
	varz, err := h.Broker.Varz()
	require.NoError(t, err)
	require.True(t, varz.JetStream.Config.SyncAlways)

	var want []event.Recorded
	for i := range beforeTheCut {
		r, err := h.Client.Append(t.Context(), newEvent(fmt.Sprint(i)))
		require.NoError(t, err)
		want = append(want, r)
	}
	rs, err := h.Client.AppendBatch(t.Context(), []event.Event{newEvent("1"), newEvent("2"), newEvent("3")})
	require.NoError(t, err)
	want = append(want, rs...)
	disk.cut(t)
	h.Broker.Stop(context.Background()) // its errors are the dead disk's
	disk.restore(t)
	h.Boot(t)
	require.Equal(t, want, all(t, h))

	require.NoError(t, h.Broker.Stop(t.Context()))
	detach(t, disk.dir)
}

// The control: the engine as it comes acknowledges what a power cut takes away.
func TestPowerCutWithoutSync(t *testing.T) {
	t.Parallel()
	disk := newPowerDisk(t)
	dir := filepath.Join(disk.dir, "host")
	rawServer(t, dir, func(js jetstream.JetStream) {
		_, err := js.CreateStream(t.Context(), wire.LogConfig(1, 0))
		require.NoError(t, err)
		for i := range beforeTheCut {
			ack, err := js.Publish(t.Context(), "events.a.b.s", nil)
			require.NoError(t, err)
			require.EqualValues(t, i+1, ack.Sequence)
		}
		disk.cut(t)
	})
	disk.restore(t)
	rawServer(t, dir, func(js jetstream.JetStream) {
		s, err := js.Stream(t.Context(), wire.LogName)
		if err == nil {
			require.Less(t, s.CachedInfo().State.LastSeq, uint64(beforeTheCut))
		}
		t.Log("what came back:", err)
	})
	detach(t, disk.dir)
}
