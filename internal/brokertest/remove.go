package brokertest

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// RemoveAll removes a directory in which a running host may still make files: a file made
// between the listing of a directory and its removal fails the removal, which is repeated.
func RemoveAll(t testing.TB, dir string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if err = os.RemoveAll(dir); err == nil {
			return
		}
	}
	require.NoError(t, err)
}
