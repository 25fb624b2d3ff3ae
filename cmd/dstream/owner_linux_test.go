package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two users of one machine; the numbers are nobody's.
const (
	someone    = 4001
	someoneToo = 4002
)

// users gives a directory that everybody can reach, and runs this program there as a
// user.
func users(t *testing.T) (project string, as func(uid uint32, args ...string) (out string, err error)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be several users")
	}
	base := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(base), 0o755))
	program := filepath.Join(base, "dstream")
	// By another process: a program that this one writes may be busy when it is to run, because a
	// child that is started meanwhile holds it open too.
	require.NoError(t, exec.Command("cp", standIn(t), program).Run())
	require.NoError(t, os.Chmod(program, 0o755))
	project = filepath.Join(base, "project")
	require.NoError(t, os.Mkdir(project, 0o755))
	require.NoError(t, os.Chown(project, someone, someone))
	return project, func(uid uint32, args ...string) (string, error) {
		cmd := exec.Command(program, append([]string{"--dir", filepath.Join(project, ".opencode")}, args...)...)
		cmd.Env = append(os.Environ(), "DSTREAM_TEST_AS=dstream", "HOME=/tmp")
		cmd.Dir = base
		if uid != 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// of demands that all below a directory is one user's.
func of(t *testing.T, uid uint32, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, uid, info.Sys().(*syscall.Stat_t).Uid, path)
		return nil
	}))
}

// root once, then the user: what root has made is the user's.
func TestRootOnceThenTheUser(t *testing.T) {
	t.Parallel()
	project, as := users(t)
	words, err := as(0, "append", "a.b", "--stream", "s", "--actor", "root")
	require.NoError(t, err, words)
	of(t, someone, project)
	words, err = as(someone, "status")
	require.NoError(t, err, words)

	// 10 MB, so that the engine makes another file.
	line := []byte(`{"type":"a.b","stream_id":"s","actor":"a","payload":"` + strings.Repeat("0", 400_000) + "\"}\n")
	big := filepath.Join(filepath.Dir(project), "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat(line, 25), 0o600), "which only root can read")
	words, err = as(0, "append", "--jsonl", big)
	require.NoError(t, err, "%.500s", words)
	of(t, someone, project)
	words, err = as(someone, "append", "a.b", "--stream", "s", "--actor", "me")
	require.NoError(t, err, words)
	require.Contains(t, words, `"seq":27,`)
}

// What an earlier version made as root, or what is another user's, is told as that.
func TestPermissionDenied(t *testing.T) {
	t.Parallel()
	project, as := users(t)
	words, err := as(someone, "append", "a.b", "--stream", "s", "--actor", "me")
	require.NoError(t, err, words)
	log := filepath.Join(project, ".opencode")
	for _, args := range [][]string{{"status"}, {"doctor"}, {"query"}, {"append", "a.b", "--stream", "s", "--actor", "me"}} {
		words, err := as(someoneToo, args...)
		require.Error(t, err)
		require.Contains(t, words, "belongs to user 4001", "%v", args)
		require.NotContains(t, words, "chown", "it is not the other's to be given")
	}
	require.NoError(t, filepath.WalkDir(log, func(path string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		return os.Chown(path, 0, 0)
	}))
	for _, args := range [][]string{{"status"}, {"doctor"}, {"query"}, {"serve"}, {"append", "a.b", "--stream", "s", "--actor", "me"}} {
		words, err := as(someone, args...)
		require.Error(t, err)
		require.Contains(t, words, log+" belongs to root", "%v", args)
		require.Contains(t, words, "sudo chown -R 4001:4001 "+log+"' gives it back", "%v", args)
		require.NotContains(t, words, "there is no log")
		require.NotContains(t, words, "mount is dead")
	}
}

// In a directory where everybody may make something, root does not use what a stranger has
// put there: it would believe the stranger's answers. Root may name the stranger, and sudo
// names its caller.
func TestRootAndAStranger(t *testing.T) {
	project, as := users(t)
	require.NoError(t, os.Chown(project, 0, 0))
	require.NoError(t, os.Chmod(project, 0o777|os.ModeSticky))
	words, err := as(someoneToo, "append", "a.b", "--stream", "s", "--actor", "stranger")
	require.NoError(t, err, words)
	log := filepath.Join(project, ".opencode")
	refused := func(path string) {
		for _, args := range [][]string{
			{"append", "a.b", "--stream", "s", "--actor", "root"}, {"status"}, {"doctor"}, {"query"}, {"serve"}, {"mirror", "run"},
			{"checkpoint", "list"}, {"restore"}, {"keys", "make", "x", "--role", "agent"},
		} {
			words, err := as(0, args...)
			require.Error(t, err, "%v: %s", args, words)
			require.Contains(t, words, "dubious ownership: "+path+" belongs to user 4002, and this process runs as root", "%v", args)
			require.Contains(t, words, "DSTREAM_TRUST_OWNER=4002", "%v", args)
		}
	}
	refused(log)
	of(t, someoneToo, log)
	t.Setenv("SUDO_UID", "4002")
	words, err = as(0, "append", "a.b", "--stream", "s", "--actor", "root")
	require.NoError(t, err, words)
	require.Contains(t, words, `"seq":2,`)
	of(t, someoneToo, log)
	t.Setenv("SUDO_UID", "4001")
	refused(log)
	require.NoError(t, os.Chown(log, 0, 0), "and so for what is in a log's directory of root's own")
	refused(filepath.Join(log, "durable_stream"))
	t.Setenv("DSTREAM_TRUST_OWNER", "4002")
	words, err = as(0, "status")
	require.NoError(t, err, words)
}

// What root makes in a user's directory without the log is the user's too.
func TestRootsKeysAreTheUsers(t *testing.T) {
	t.Parallel()
	project, as := users(t)
	log := filepath.Join(project, ".opencode")
	for _, args := range [][]string{
		{"keys", "make", "first", "--role", "agent"}, // which makes the directories
		{"append", "a.b", "--stream", "s", "--actor", "root"},
		{"keys", "make", "x", "--role", "agent"},
		{"keys", "remove", "first"},
		{"keys", "make", "x", "--role", "agent", "--keys", filepath.Join(project, "deploy", "all", "keys.json")},
		{"keys", "tls", "--host", "localhost", "--out", filepath.Join(project, "deploy", "certs")},
		{"bench", "--for", "100ms"},
	} {
		words, err := as(0, args...)
		require.NoError(t, err, "%v: %s", args, words)
		of(t, someone, project)
	}
	require.FileExists(t, filepath.Join(log, "durable_stream", "keys", "x.nk"))
	words, err := as(someone, "append", "a.b", "--stream", "s", "--actor", "me")
	require.NoError(t, err, words)

	words, err = as(0, "keys", "make", "boss", "--role", "operator")
	require.Error(t, err)
	require.Contains(t, words, "give --out", "not into root's own directory, which the user cannot read")
	own := filepath.Join(filepath.Dir(project), "own") // of root alone
	require.NoError(t, os.Mkdir(own, 0o700))
	words, err = as(0, "keys", "make", "x", "--role", "agent", "--keys", filepath.Join(own, "keys.json"))
	require.NoError(t, err, words)
	of(t, 0, own)
}

// A command that root gives in a user's project cannot read what is root's alone, and says
// why; the copy is not to be given away.
func TestRestoreFromWhatOnlyRootReads(t *testing.T) {
	t.Parallel()
	project, as := users(t)
	backup := filepath.Join(filepath.Dir(project), "backup")
	require.NoError(t, os.Mkdir(backup, 0o700))
	mirror := filepath.Join(backup, ".opencode")
	words, err := as(0, "--dir", mirror, "append", "a.b", "--stream", "s", "--actor", "root")
	require.NoError(t, err, words)
	words, err = as(0, "restore", "--from", mirror)
	require.Error(t, err)
	require.Contains(t, words, backup+" belongs to root, and this command runs as user 4001, to whom "+filepath.Join(project, ".opencode")+" belongs: copy what it is to read")
	require.NotContains(t, words, "chown")
	require.NoDirExists(t, filepath.Join(project, ".opencode"))

	require.NoError(t, os.Chmod(backup, 0o755))
	require.NoError(t, os.Chmod(mirror, 0o755))
	require.NoError(t, os.Chmod(filepath.Join(mirror, "durable_stream.jsonl"), 0o644))
	words, err = as(0, "restore", "--from", filepath.Join(mirror, "durable_stream.jsonl"))
	require.NoError(t, err, words)
	of(t, someone, project)
}
