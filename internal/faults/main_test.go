package faults

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}

var programDir string // removed when all tests have run

// program is the program, which is built once for all tests. Each test that builds it
// costs as much CPU as a short test.
func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

var built = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "dstream-faults"); err != nil {
		return "", err
	}
	return Build(context.Background(), programDir)
})
