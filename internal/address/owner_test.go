package address

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhomToTrust(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		me, uid int
		named   string
		want    bool
	}{
		{1000, 1000, "", true},
		{1000, 1001, "", false},
		{1000, 0, "", false},
		{0, 1001, "", true},
		{1000, 1001, "1001", true},
		{1000, 1001, "7,1001", true},
		{1000, 1001, "10010", false},
		{1000, 1001, "*", false},
	} {
		require.Equal(t, tc.want, trusts(tc.me, tc.uid, tc.named), "%+v", tc)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, CheckOwner(dir))
	require.NoError(t, CheckOwner(filepath.Join(dir, "none")))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	uid, known := Owner(info)
	require.True(t, known)
	require.Equal(t, os.Geteuid(), uid)
	require.ErrorContains(t, &OwnerError{dir, 4001, 4002}, "dubious ownership: "+dir+" belongs to user 4001, and this process runs as user 4002")
}
