package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/console"
	"durablestream/internal/doctor"
	"durablestream/internal/faults"
)

// ended is a log of n events that nobody hosts.
func ended(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "[id] *", ".opencode") // a name like a pattern
	require.NoError(t, os.Mkdir(filepath.Dir(dir), 0o700))
	cmd, _ := hosting(t, dir, hostPID)
	command(t, dir, "append", "--jsonl", many(t, n))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	return dir
}

// doctorSays runs the doctor in both forms, and gives what it found.
func doctorSays(t *testing.T, dir string, flags ...string) (status int, out string, found []doctor.Finding) {
	t.Helper()
	args := append([]string{"--dir", dir, "doctor"}, flags...)
	if len(flags) == 0 { // else it is repaired by then
		status, out, _ = dstream(t, args...)
	}
	asJSON, text, words := dstream(t, append(args, "--json")...)
	var a doctor.Answer
	require.NoError(t, json.Unmarshal([]byte(text), &a), "%s%s", text, words)
	if len(flags) == 0 {
		require.Equal(t, status, asJSON)
		for _, f := range a.Findings {
			require.Contains(t, out, console.OneLine(f.What, 2000))
		}
		require.Equal(t, len(a.Findings) == 0, strings.Contains(out, "nothing is wrong"), out)
	}
	for _, f := range a.Findings {
		found = append(found, *f)
	}
	fixed := true
	for _, f := range found {
		fixed = fixed && f.Fixed
	}
	require.Equal(t, fixed, asJSON == 0, "the exit status says what was found: %s", text)
	return asJSON, out, found
}

func names(found []doctor.Finding) (out []string) {
	for _, f := range found {
		out = append(out, f.Name)
	}
	return out
}

func wellAgain(t *testing.T, dir string) {
	t.Helper()
	status, out, _ := doctorSays(t, dir)
	require.Zero(t, status, out)
}

// wreck makes a record in the store that no checksum can bring back.
func wreck(t *testing.T, dir string, seq event.Sequence) {
	t.Helper()
	n := &faults.Node{Name: "host", Dir: dir}
	p, err := n.Find(seq)
	require.NoError(t, err)
	for i := 12; i < p.Length-1; i++ {
		require.NoError(t, p.Flip(i))
	}
}

// changeLine changes one byte of a line of the mirror.
func changeLine(t *testing.T, dir string, line int) {
	t.Helper()
	path := filepath.Join(dir, durablestream.MirrorFile)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(b, []byte("\n"))
	l := lines[line-1]
	l[bytes.Index(l, []byte(`"payload"`))+3] ^= 1
	require.NoError(t, os.WriteFile(path, bytes.Join(lines, nil), 0o600))
}

// files is all that is in a directory, without what a look may leave: an empty lock.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, "lock") {
			return err
		}
		if e.Type() == fs.ModeSymlink {
			out[path], err = os.Readlink(path)
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	}))
	return out
}

// What one of store and mirror has is not given up because the other is damaged too, and
// damaged elsewhere.
func TestDoctorStoreAndMirrorDamaged(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := command(t, dir, "query")
	wreck(t, dir, 20)
	changeLine(t, dir, 10)
	status, out, found := doctorSays(t, dir)
	require.Equal(t, exitFailed, status)
	require.Equal(t, []string{doctor.FoundStore, doctor.FoundMirror}, names(found))
	require.Contains(t, out, "mirror, which knows 1 of them")
	require.Contains(t, out, "line 10 (seq 10) is damaged")

	_, _, found = doctorSays(t, dir, "--fix", "--yes")
	require.True(t, found[0].Fixed && found[0].Changed)
	require.Contains(t, found[0].Outcome, "1 position brought back: 1 from the mirror; the blocks as they were are in ")
	require.True(t, found[1].Fixed && found[1].Changed)
	require.Contains(t, found[1].Outcome, "the mirror was written anew, and is equal to the log")
	wellAgain(t, dir)
	require.Equal(t, was, command(t, dir, "query"))
	require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 30 lines")
}

// What neither has is told, and nothing is changed without --accept-loss.
func TestDoctorAcceptLoss(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := strings.SplitAfter(command(t, dir, "query"), "\n")
	wreck(t, dir, 10)
	wreck(t, dir, 20)
	changeLine(t, dir, 10)
	before := files(t, dir)
	_, _, found := doctorSays(t, dir, "--fix", "--yes")
	require.Contains(t, found[0].Outcome, "not repaired, and nothing was changed: position 10 is neither in the store nor in the mirror")
	require.Contains(t, found[0].Outcome, "--accept-loss")
	require.Contains(t, found[1].Outcome, "not repaired, and nothing was changed")
	for _, f := range found {
		require.False(t, f.Fixed || f.Changed)
	}
	require.Equal(t, before, files(t, dir))
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status)
	require.NotContains(t, out, "kept:")
	require.NotContains(t, out, "repaired:")

	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes", "--accept-loss")
	require.Zero(t, status, out)
	require.Contains(t, out, "repaired: 1 position brought back: 1 from the mirror; 1 position given up, which --accept-loss allowed: what stood there is lost (10)")
	wellAgain(t, dir)
	require.Equal(t, strings.Join(append(was[:9:9], was[10:]...), ""), command(t, dir, "query"))
	require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 29 lines")
}

// Another log's mirror repairs nothing.
func TestDoctorForeignMirror(t *testing.T) {
	t.Parallel()
	dir, other := ended(t, 30), ended(t, 40)
	require.NoError(t, os.Rename(durablestream.MirrorPath(other), durablestream.MirrorPath(dir)))
	_, _, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundMirror}, names(found), "the store is whole")
	wreck(t, dir, 20)
	before := files(t, dir)
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "nothing was changed: the mirror and the log disagree")
	require.Equal(t, before, files(t, dir))
	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes", "--accept-loss")
	require.Zero(t, status, out)
	require.Contains(t, out, "1 position given up")
	wellAgain(t, dir)
	require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 29 lines in 1 file, sequences 1 to 30")
}

// The mirror alone is damaged: it is written anew, and the old one kept.
func TestDoctorMirror(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		what string
	}{
		"a byte": {func(t *testing.T, dir string) { changeLine(t, dir, 7) }, "line 7 (seq 7) is damaged"},
		"a line": {func(t *testing.T, dir string) {
			path := durablestream.MirrorPath(dir)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			lines := bytes.SplitAfter(b, []byte("\n"))
			require.NoError(t, os.WriteFile(path, bytes.Join(append(lines[:6:6], lines[7:]...), nil), 0o600))
		}, "line 7 (seq 8) is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := ended(t, 30)
			whole, err := os.ReadFile(durablestream.MirrorPath(dir))
			require.NoError(t, err)
			c.do(t, dir)
			bad, err := os.ReadFile(durablestream.MirrorPath(dir))
			require.NoError(t, err)
			_, out, found := doctorSays(t, dir)
			require.Equal(t, []string{doctor.FoundMirror}, names(found))
			require.Contains(t, out, c.what)
			require.Contains(t, out, "--fix: moves the mirror's files away and writes them anew")
			status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
			require.Zero(t, status, out)
			require.Contains(t, out, "repaired: the mirror was written anew, and is equal to the log")
			now, err := os.ReadFile(durablestream.MirrorPath(dir))
			require.NoError(t, err)
			require.Equal(t, string(whole), string(now))
			kept, err := blocks.Glob(dir, filepath.Join(durablestream.HostDir, broker.DamagedDir, "*", durablestream.MirrorFile))
			require.NoError(t, err)
			require.Len(t, kept, 1)
			was, err := os.ReadFile(kept[0])
			require.NoError(t, err)
			require.Equal(t, string(bad), string(was))
			wellAgain(t, dir)
		})
	}
}

// A mirror that only lacks its end: doctor and `mirror verify` say the same, and the next
// host, or the repair, writes it.
func TestDoctorMirrorBehind(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"gone": -1, "cut off between two lines": 0, "cut off within a line": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := ended(t, 30)
			path := durablestream.MirrorPath(dir)
			whole, err := os.ReadFile(path)
			require.NoError(t, err)
			cut := func() {
				if size < 0 {
					require.NoError(t, os.Remove(path))
					return
				}
				at := int64(bytes.Index(whole, []byte("\n{\"seq\":21,"))) + 1
				require.NoError(t, os.Truncate(path, at+size))
			}
			cut()
			_, out, found := doctorSays(t, dir)
			require.Equal(t, []string{doctor.FoundBehind}, names(found))
			status, _, words := dstream(t, "--dir", dir, "mirror", "verify")
			require.Equal(t, exitFailed, status)
			same, _, _ := strings.Cut(found[0].What, ". Nothing is lost by that")
			require.Contains(t, words, same)
			require.Contains(t, out, "Nothing is lost by that")
			status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
			require.Zero(t, status, out)
			require.Contains(t, out, "repaired: the missing lines were written")
			now, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(whole), string(now))
			wellAgain(t, dir)

			cut()
			cmd, _ := hosting(t, dir, hostPID)
			require.Eventually(t, func() bool { status, _, _ := dstream(t, "--dir", dir, "doctor"); return status == 0 }, 20*time.Second, time.Millisecond)
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, cmd.Wait())
			now, err = os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(whole), string(now))
		})
	}
}

// A file that is taken away from a host that writes it.
func TestDoctorMirrorTakenAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	command(t, dir, "append", "--jsonl", many(t, 30))
	wellAgain(t, dir)
	require.NoError(t, os.Remove(durablestream.MirrorPath(dir)))
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundBehind}, names(found))
	require.Contains(t, out, "the host has written them, and they were taken away since")
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "The host was ended for that: start it again")
	require.NoError(t, cmd.Wait())
	wellAgain(t, dir)
}
