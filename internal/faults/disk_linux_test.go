package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A disk has power again after a cut, although another mount namespace holds the file
// system that was shut down; and what was synced before is there.
func TestDiskHeldElsewhere(t *testing.T) {
	disks, why := MakeDisks(t.TempDir(), 1, 64<<20)
	if why != nil {
		t.Skipf("skipped: %v", why)
	}
	d := disks[0]
	t.Cleanup(func() { require.NoError(t, Unmount(disks)) })
	path := filepath.Join(d.Dir(), "kept")
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = f.WriteString("kept")
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())

	holder := exec.Command("unshare", "--mount", "sh", "-c", "echo held; exec cat")
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = in.Close(); _ = holder.Wait() })
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Skipf("skipped: a mount namespace of its own: %v", err)
	}
	for range 2 {
		require.NoError(t, d.cut())
		require.Error(t, d.writable(), "it has no power")
		require.NoError(t, d.remount())
		require.NoError(t, d.writable())
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "kept", string(b))
	}
}
