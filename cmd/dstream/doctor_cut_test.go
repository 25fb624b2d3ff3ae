package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/doctor"
	"durablestream/internal/engine"
	"durablestream/internal/faults"
)

// cutStore takes the records from seq on off the store, with what the engine's index tells.
func cutStore(t *testing.T, dir string, seq event.Sequence) {
	t.Helper()
	n := &faults.Node{Name: "host", Dir: dir}
	p, err := n.Find(seq)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(p.Path, p.Off))
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(p.Path), engine.StateFile)))
}

func checkedPath(dir string) string {
	return filepath.Join(dir, durablestream.HostDir, broker.StoreDir, blocks.CheckedFile)
}

// writtenOn is a log of 30 events whose store lost those from 21 on without a trace, and
// that has a new event at 21 since: the mirror has the only copy of the old ones.
func writtenOn(t *testing.T) (dir, was string) {
	t.Helper()
	dir = ended(t, 30)
	was = command(t, dir, "query")
	cutStore(t, dir, 21)
	require.NoError(t, os.Remove(checkedPath(dir)))
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir, Command: durablestream.Command{NoMirror: true}})
	require.NoError(t, err)
	r, err := d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "new", Actor: "a", Payload: []byte(`{}`)})
	require.NoError(t, err)
	require.Equal(t, event.Sequence(21), r.Seq)
	require.NoError(t, d.Close())
	return dir, was
}

// A mirror that has the only copy of what the log lost stays where it is.
func TestDoctorMirrorOlderThanLog(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, dir string){
		"whole":   func(*testing.T, string) {},
		"damaged": func(t *testing.T, dir string) { changeLine(t, dir, 5) },
		"torn": func(t *testing.T, dir string) {
			f, err := os.OpenFile(durablestream.MirrorPath(dir), os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.WriteString(`{"seq":31,`)
			require.NoError(t, errors.Join(err, f.Close()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, was := writtenOn(t)
			harm(t, dir)
			_, out, found := doctorSays(t, dir)
			require.Equal(t, []string{doctor.FoundMirror}, names(found))
			require.Contains(t, out, "the mirror and the log hold different things at position 21, and only the mirror has position 22 to 30; up to 20 they are equal")
			require.Contains(t, out, "they are the older ones, of a log whose store was cut there")
			require.NotContains(t, out, "which is whole")
			require.Equal(t, name == "damaged", strings.Contains(out, "line 5 is damaged too: a restore refuses"), out)
			require.NotContains(t, out, "Nothing is lost")

			before := files(t, dir)
			status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
			require.Equal(t, exitFailed, status)
			require.Contains(t, out, "--fix changes neither the mirror nor the log")
			require.Contains(t, out, "restore --from "+dir)
			require.NotContains(t, out, "repaired")
			require.Equal(t, before, files(t, dir))

			if name == "whole" { // the first way out
				other := filepath.Join(t.TempDir(), "new")
				command(t, other, "restore", "--from", dir)
				require.Equal(t, was, command(t, other, "query"))
				require.Equal(t, before, files(t, dir))
			}
			mirror := before[durablestream.MirrorPath(dir)]
			status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes", "--accept-loss")
			require.Zero(t, status, out)
			kept, err := blocks.Glob(dir, filepath.Join(durablestream.HostDir, broker.DamagedDir, "*", durablestream.MirrorFile))
			require.NoError(t, err)
			require.Len(t, kept, 1)
			b, err := os.ReadFile(kept[0])
			require.NoError(t, err)
			require.Equal(t, mirror, string(b))
			wellAgain(t, dir)
			require.Contains(t, command(t, dir, "mirror", "verify"), "clean: 21 lines")
		})
	}
}

// That the log was longer is known from the last orderly stop alone: the doctor sees what a
// host sees that refuses the store.
func TestDoctorKnowsTheLastStop(t *testing.T) {
	t.Parallel()
	dir := ended(t, 30)
	was := strings.SplitAfter(command(t, dir, "query"), "\n")
	cutStore(t, dir, 21)
	require.NoError(t, os.Remove(durablestream.MirrorPath(dir)))
	_, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.ErrorContains(t, err, "21 to 30")
	_, out, found := doctorSays(t, dir)
	require.Equal(t, []string{doctor.FoundStore}, names(found))
	require.Contains(t, out, "the store cannot read 10 positions: position 21 to 30")
	require.NotContains(t, out, "Nothing is lost")

	before := files(t, dir)
	status, out, _ := dstream(t, "--dir", dir, "doctor", "--fix", "--yes")
	require.Equal(t, exitFailed, status)
	require.Contains(t, out, "nothing was changed: position 21 to 30 is neither in the store nor in the mirror")
	require.Equal(t, before, files(t, dir))

	status, out, _ = dstream(t, "--dir", dir, "doctor", "--fix", "--yes", "--accept-loss")
	require.Zero(t, status, out)
	require.Contains(t, out, "10 positions given up, which --accept-loss allowed: what stood there is lost (21 to 30)")
	wellAgain(t, dir)
	d, err := durablestream.Open(t.Context(), durablestream.Config{Dir: dir})
	require.NoError(t, err)
	r, err := d.Append(t.Context(), event.Event{Type: "task.created", StreamID: "new", Actor: "a", Payload: []byte(`{}`)})
	require.NoError(t, err)
	require.Equal(t, event.Sequence(31), r.Seq, "no position is given away twice")
	require.NoError(t, d.Close())
	require.Equal(t, was[:20], strings.SplitAfter(command(t, dir, "query"), "\n")[:20])
	wellAgain(t, dir)
}
