package address_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
	"durablestream/internal/sickdisk"
)

// The kernel still has a path for a directory whose file system was unmounted under it:
// what is left of it, below no mount. That is no place to which the log was moved.
func TestPlaceOfADirectoryWhoseMountHasGone(t *testing.T) {
	disk := t.TempDir()
	if err := sickdisk.Tmpfs(disk, "size=1m"); err != nil {
		t.Skip("cannot mount a file system: ", err)
	}
	dir := filepath.Join(disk, ".opencode")
	require.NoError(t, os.Mkdir(dir, 0o700))
	place := address.Keep(dir)
	defer place.Close()
	require.Equal(t, dir, place.Now())
	require.NoError(t, sickdisk.Detach(disk))
	require.Empty(t, place.Now())
}
