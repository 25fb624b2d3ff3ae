package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

// standIn is this test binary, for the processes that a test starts. The race detector
// makes their work several times dearer: a short run with it starts them from the same
// binary built without it. make test-all looks for races in these processes too.
func standIn(t *testing.T) string {
	t.Helper()
	if !raced || longtest.Pick(false, true) {
		return os.Args[0]
	}
	path, err := unraced()
	require.NoError(t, err)
	return path
}

var unraced = sync.OnceValues(func() (string, error) {
	var err error
	if unracedDir, err = os.MkdirTemp("", "dstream-unraced"); err != nil {
		return "", err
	}
	path := filepath.Join(unracedDir, "dstream") // the command of that name in the scripts, too
	build := exec.Command("go", "test", "-c", "-ldflags", "-s -w", "-o", path, ".")
	build.Stderr = os.Stderr
	return path, build.Run()
})

var unracedDir string // goes when all tests have run

// tidy runs the tests and removes what they shared.
type tidy struct{ *testing.M }

func (t tidy) Run() int {
	code := t.M.Run()
	if unracedDir != "" {
		_ = os.RemoveAll(unracedDir)
	}
	return code
}
