package mirror

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/brokertest"
)

// A file that takes the active one's place while the disk is full is not cut.
func TestRepairLeavesAnotherFileAlone(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	path := filepath.Join(cfg.Dir, ActiveName)
	mine := strings.Repeat("mine", 1000)
	appendAll(t, h.Client, mixed(1)...)
	failures := 0
	cfg.step = func(op string) error {
		if op != "write" {
			return nil
		}
		if failures++; failures == 3 {
			require.NoError(t, os.Rename(path, path+".bak"))
			require.NoError(t, os.WriteFile(path, []byte(mine), 0o600))
		}
		return syscall.ENOSPC
	}
	require.ErrorAs(t, start(t, cfg).wait(t), new(*DamageError))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, mine, string(got))
}

// Errors of the disk at any step are reported, tried again, and leave no trace.
func TestDiskErrorsAreTriedAgain(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	appendAll(t, h.Client, mixed(12)...)
	for _, op := range []string{"write", "fsync", "rename", "create", "dirsync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, h)
			cfg.MaxBytes, cfg.batchBytes = 500, 1
			failures := 0
			cfg.step = func(now string) error {
				if now == op && failures < 7 && rand.IntN(2) == 0 {
					failures++
					return syscall.ENOSPC
				}
				return nil
			}
			var reported error
			cfg.Progress = func(p Progress) {
				if p.Err != nil {
					reported = p.Err
				}
			}
			catchUp(t, cfg)
			requireEqual(t, cfg)
			if failures > 1 { // the first may be that of the file's first creation
				require.ErrorIs(t, reported, syscall.ENOSPC)
			}
		})
	}
}

// A disk that stays full beyond the end is Run's error; nothing torn stays behind.
func TestDiskStaysFull(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	appendAll(t, h.Client, mixed(2)...)
	catchUp(t, cfg)
	before := content(t, cfg.Dir)
	cfg.Drain = 50 * time.Millisecond
	cfg.step = func(op string) error {
		if op == "fsync" { // the bytes are in the file already
			return syscall.ENOSPC
		}
		return nil
	}
	appendAll(t, h.Client, mixed(1)...)
	r := start(t, cfg)
	require.Eventually(t, func() bool { p := r.last.Load(); return p != nil && p.Err != nil }, 10*time.Second, time.Millisecond)
	require.Equal(t, before, content(t, cfg.Dir))
	require.ErrorIs(t, r.stop(t), syscall.ENOSPC)
	cfg.step = nil
	catchUp(t, cfg)
	requireEqual(t, cfg)
}
