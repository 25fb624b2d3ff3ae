package address_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
	"durablestream/internal/paths"
)

// asUser is set in a child of this test binary, and names the address that it looks for.
const asUser = "ADDRESS_TEST_FIND"

// TestMain makes this test binary stand in for a process of another user.
func TestMain(m *testing.M) {
	path := os.Getenv(asUser)
	if path == "" {
		os.Exit(m.Run())
	}
	_, err := address.Find(path)
	fmt.Print(err)
	var other *address.OwnerError
	if errors.As(err, &other) && other.Path == filepath.Dir(path) {
		os.Exit(3)
	}
}

// The directory of another user is refused by name, before anything else of it is looked at.
func TestAnotherUsersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	h := hostIn(t, "")
	const owner, other = 54001, 54002
	for _, path := range []string{h.dir, h.path, filepath.Join(h.dir, "store")} {
		require.NoError(t, os.Chown(path, owner, owner))
	}
	for dir := filepath.Dir(h.dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	copied := filepath.Join(filepath.Dir(h.dir), "test")
	// By another process: a program that this one writes may be busy when it is to run, because a
	// child that is started meanwhile holds it open too.
	require.NoError(t, exec.Command("cp", os.Args[0], copied).Run())
	require.NoError(t, os.Chmod(copied, 0o755))
	find := func(uid uint32, env ...string) (string, int) {
		cmd := exec.Command(copied)
		cmd.Dir = "/"
		cmd.Env = append(append(os.Environ(), asUser+"="+h.path), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Skip("no process of another user can be started here: ", err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	said, status := find(owner)
	require.Zero(t, status, said)
	require.Equal(t, "<nil>", said)
	said, status = find(other)
	require.Equal(t, 3, status, said)
	require.Contains(t, said, fmt.Sprintf("dubious ownership: %s belongs to user %d, and this process runs as user %d", h.dir, owner, other))
	require.Contains(t, said, fmt.Sprintf("set %s=%d", paths.TrustVariable, owner))
	said, status = find(other, fmt.Sprintf("%s=%d", paths.TrustVariable, owner))
	require.Zero(t, status, "that user is trusted, and only the directory's own mode is in the way: %s", said)
	require.Contains(t, said, "permission denied")

	// Root uses it in a project of that user, and not where the user has only put it.
	log := filepath.Dir(h.dir)
	h.strange(t, h.dir)
	require.NoError(t, os.Chown(log, owner, owner))
	h.strange(t, log)
	require.NoError(t, os.Chown(filepath.Dir(log), owner, owner))
	h.found(t)
}

// strange finds no host, since somebody has put a path there.
func (h *hosted) strange(t *testing.T, path string) {
	t.Helper()
	_, err := address.Find(h.path)
	var other *address.OwnerError
	require.ErrorAs(t, err, &other)
	require.Equal(t, path, other.Path)
}
