package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/doctor"
	"durablestream/internal/longtest"
	st "durablestream/internal/status"
)

// tornEnd is a log of n events whose mirror has them all, and a part of a batch of 300: without
// the rest, which is gone. Members of 60 kB each are in more than one block. It
// is as a program of before made it: nothing else tells of the part.
func tornEnd(t *testing.T, n, members, size int) (dir string, batch []event.Event) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), ".opencode")
	open := func(noMirror bool) *durablestream.DurableStream {
		d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, Command: durablestream.Command{NoMirror: noMirror}})
		require.NoError(t, err)
		return d
	}
	d := open(false)
	for i := range n {
		_, err := d.Append(t.Context(), event.Event{ID: fmt.Sprintf("first_%d", i), Type: "task.created", StreamID: "s", Actor: "a", Payload: []byte(`{}`)})
		require.NoError(t, err)
	}
	require.NoError(t, d.Close())
	d = open(true)
	for i := range 300 {
		batch = append(batch, event.Event{ID: fmt.Sprintf("member_%d", i), Type: "task.created", StreamID: "s", Actor: "a", Payload: fmt.Appendf(nil, `"%0*d"`, size, i)})
	}
	_, err := d.AppendBatch(t.Context(), batch)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	cutAfter(t, dir, event.Sequence(n+members))
	return dir, batch
}

// cutAfter takes all behind a position off the store, and what tells of it.
func cutAfter(t *testing.T, dir string, last event.Sequence) {
	t.Helper()
	cutStore(t, dir, last+1)
	found, err := blocks.Find(filepath.Join(dir, durablestream.HostDir, broker.StoreDir))
	require.NoError(t, err)
	files, err := blocks.List(found[0])
	require.NoError(t, err)
	for _, f := range files {
		if b, err := blocks.CheckFile(f); err == nil && b.First > last {
			require.NoError(t, os.Remove(f.Path))
		}
	}
	require.NoError(t, os.Remove(checkedPath(dir)))
}

// The part is cut off where nobody was shown it; the batch, appended again, is stored once.
func TestDoctorCutsAPartOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ n, members, short int }{
		"in one block": {20, 5, 60}, "in several": {20, 290, 60_000}, "all of the log": {0, 5, 60}, "a first member": {3, 1, 60},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "in several" {
				longtest.Only(t, "a batch of 18 MB; the other parts run, and TestTheRestOfABatchIsKeptUntilTheBatchIsWhole of broker")
			}
			t.Parallel()
			dir, batch := tornEnd(t, c.n, c.members, longtest.Pick(c.short, 60_000))
			other := event.Event{ID: "other", Type: "task.created", StreamID: "s", Actor: "a", Payload: []byte(`{}`)}
			d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
			require.NoError(t, err)
			_, err = d.Append(t.Context(), other)
			require.ErrorIs(t, err, client.ErrTornBatch)
			_, err = d.AppendBatch(t.Context(), batch)
			require.ErrorIs(t, err, client.ErrTornBatch)
			require.NoError(t, d.Close())
			_, text, found := doctorSays(t, dir)
			require.Equal(t, []string{doctor.FoundTorn}, names(found), text)
			status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
			require.Zero(t, status, out)
			require.Contains(t, out, fmt.Sprintf("the log ends at %d", c.n))
			wellAgain(t, dir)

			d, err = durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
			require.NoError(t, err)
			next, err := d.Append(t.Context(), other)
			require.NoError(t, err)
			require.EqualValues(t, c.n+1, next.Seq)
			for range 2 {
				again, err := d.AppendBatch(t.Context(), batch)
				require.NoError(t, err)
				require.EqualValues(t, c.n+2, again[0].Seq)
			}
			require.NoError(t, d.Close())
			wellAgain(t, dir)
			require.Contains(t, command(t, dir, "mirror", "verify"), fmt.Sprintf("clean: %d lines", c.n+301))
		})
	}
}

// While it is there, status has an alarm for it, and readers are shown nothing of it. What
// the mirror has a line of was shown, and stays.
func TestStatusAndDoctorOfAPart(t *testing.T) {
	t.Parallel()
	dir, _ := tornEnd(t, 20, 5, longtest.Pick(60, 60_000))
	hosting(t, dir, hostPID)
	_, out, _ := dstream(t, "--dir", dir, "status", "--json")
	require.Contains(t, out, st.AlarmTorn)
	require.Contains(t, out, "position 21 to 25")
	status, words, err := dstream(t, "--dir", dir, "append", "--jsonl", many(t, 1))
	require.Equal(t, exitFailed, status)
	require.Contains(t, words+err, client.ErrTornBatch.Error())
	require.Contains(t, words+err, "'dstream doctor --fix' cuts the part off")
	require.Equal(t, 20, strings.Count(command(t, dir, "query"), "\n"))
	_, text, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundTorn}, names(found), text)
	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Zero(t, status, out)
	require.Contains(t, out, "The host was ended for that")
	wellAgain(t, dir)
}

func TestDoctorLeavesAPartThatWasShown(t *testing.T) {
	t.Parallel()
	dir := ended(t, 20)
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	var batch []event.Event
	for i := range 10 {
		batch = append(batch, event.Event{ID: fmt.Sprintf("member_%d", i), Type: "task.created", StreamID: "s", Actor: "a", Payload: []byte(`{}`)})
	}
	_, err = d.AppendBatch(t.Context(), batch)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	mirror, err := os.ReadFile(durablestream.MirrorPath(dir))
	require.NoError(t, err)
	shown := 0
	for i, c := range mirror {
		if c == '\n' {
			if shown++; shown == 25 {
				mirror = mirror[:i+1]
				break
			}
		}
	}
	require.NoError(t, os.WriteFile(durablestream.MirrorPath(dir), mirror, 0o600))
	cutAfter(t, dir, 25)
	before := files(t, dir)
	_, text, found := doctorSays(t, dir)
	require.Contains(t, names(found), doctor.FoundTorn, text)
	require.Contains(t, text, "the mirror has lines of it, up to position 25")
	for _, flags := range [][]string{nil, {"--accept-loss"}} {
		status, out, _ := dstream(t, append([]string{"--dir", dir, "doctor", "--fix", "--yes"}, flags...)...)
		require.Equal(t, exitFailed, status, out)
		require.Equal(t, before, files(t, dir))
	}
}
