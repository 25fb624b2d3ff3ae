package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/internal/longtest"
	"durablestream/internal/sickdisk"
	st "durablestream/internal/status"
)

// powerless runs a command line without the right to pass over permissions, which root has
// otherwise, and with a directory of its own for temporary files.
func powerless(t *testing.T, tmp string, args ...string) (status int, out, words string) {
	t.Helper()
	o, w := &syncBuffer{}, &syncBuffer{}
	cmd := as(t, "dstream", w, []string{"TMPDIR=" + tmp}, args...)
	cmd.Stdout = o
	if os.Geteuid() == 0 {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("needs setpriv, to run without root's rights: ", err)
		}
		cmd.Args = append([]string{setpriv, "--inh-caps=-all", "--bounding-set=-all", "--", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = setpriv
	}
	_ = cmd.Run() // its status says it
	return cmd.ProcessState.ExitCode(), o.String(), w.String()
}

// largeLog makes a log of more than one block, with a question that waits, and ends its
// host.
func largeLog(t *testing.T, dir string) {
	t.Helper()
	lines := filepath.Join(t.TempDir(), "lines.jsonl")
	var b bytes.Buffer
	for range 12 {
		b.WriteString(`{"type":"task.created","stream_id":"s","actor":"a","payload":"` + strings.Repeat("x", 1_000_000) + `"}` + "\n")
	}
	require.NoError(t, os.WriteFile(lines, b.Bytes(), 0o600))
	status, _, words := dstream(t, "--dir", dir, "append", "--jsonl", lines)
	require.Zero(t, status, words)
	status, _, words = dstream(t, "--dir", dir, "checkpoint", "request", "--stream", "s", "--actor", "a", "--decision-point", "ship it?", "--option", "yes")
	require.Zero(t, status, words)
}

// reads demands that everything that reads goes on in a directory that cannot be written,
// and what writes is refused in words.
func reads(t *testing.T, dir string, run func(args ...string) (int, string, string)) {
	t.Helper()
	for command, want := range map[string]string{
		"query":                            `"seq":12`,
		"query --last 1":                   "checkpoint.requested",
		"tail --from start --limit 3":      `"seq":3`,
		"resume --json":                    "ship it?",
		"checkpoint list":                  "ship it?",
		"intent list":                      "nothing is unfinished",
		"lineage --stream s":               "task.created",
		"mirror verify":                    "clean: 13 lines",
		"query --type checkpoint.* --json": "ship it?",
	} {
		status, out, words := run(append([]string{"--dir", dir}, strings.Fields(command)...)...)
		require.Zero(t, status, "%s: %s", command, words)
		require.Contains(t, out, want, command)
		require.Contains(t, words, "reads a temporary copy", command)
	}
	status, out, words := run("--dir", dir, "status", "--json")
	require.Equal(t, exitFailed, status, words)
	require.Contains(t, out, `"alarm": "disk_read_only"`)
	require.Contains(t, out, `"position": 14`) // with the guard of the question
	require.NotContains(t, out, st.AlarmUnreadable)
	status, out, _ = run("--dir", dir, "doctor")
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "cannot be written")
	require.Contains(t, out, "14 messages")
	for _, command := range []string{"append task.created --stream s --actor a", "serve", "checkpoint request --stream s --actor a --decision-point x --option y"} {
		status, _, words = run(append([]string{"--dir", dir}, strings.Fields(command)...)...)
		require.Equal(t, exitFailed, status, command)
		require.Contains(t, words, "cannot be written", command)
	}
}

// Without a host a log is read from a disk that is mounted read-only.
func TestReadOnlyMount(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	onDisk(t, disk, sickdisk.Tmpfs(disk, "size=96m"))
	dir, tmp := filepath.Join(disk, ".opencode"), t.TempDir()
	largeLog(t, dir)
	undo, err := sickdisk.ReadOnly(disk)
	require.NoError(t, err)
	run := func(args ...string) (int, string, string) {
		out, words := &syncBuffer{}, &syncBuffer{}
		cmd := as(t, "dstream", words, []string{"TMPDIR=" + tmp}, args...)
		cmd.Stdout = out
		_ = cmd.Run() // its status says it
		return cmd.ProcessState.ExitCode(), out.String(), words.String()
	}
	reads(t, dir, run)
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "the copies have gone")
	require.NoError(t, undo())
	status, _, words := run("--dir", dir, "append", "task.created", "--stream", "s", "--actor", "a")
	require.Zero(t, status, words)
	wellAgain(t, dir)
}

// The same of a copy whose files and directories nobody may write, as an archive has them,
// and of one that has neither lock nor address.
func TestReadOnlyFiles(t *testing.T) {
	t.Parallel()
	dir, tmp := filepath.Join(t.TempDir(), ".opencode"), t.TempDir()
	largeLog(t, dir)
	host := filepath.Join(dir, durablestream.HostDir)
	require.NoError(t, os.Remove(filepath.Join(host, "lock")))
	mode := func(file, directory os.FileMode) {
		var dirs []string
		require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir():
				dirs = append(dirs, path)
				return os.Chmod(path, 0o700)
			case e.Type().IsRegular():
				return os.Chmod(path, file)
			}
			return nil
		}))
		for i := range dirs {
			require.NoError(t, os.Chmod(dirs[len(dirs)-1-i], directory))
		}
	}
	t.Cleanup(func() { mode(0o600, 0o700) })
	// With 0600 the blocks could be written, and must not be.
	for _, file := range longtest.Pick([]os.FileMode{0o600}, []os.FileMode{0o444, 0o600}) {
		mode(file, 0o555)
		reads(t, dir, func(args ...string) (int, string, string) { return powerless(t, tmp, args...) })
	}
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "the copies have gone")
	mode(0o600, 0o700)
	wellAgain(t, dir)
}
