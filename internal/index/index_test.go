package index_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/brokertest"
	"durablestream/internal/index"
)

func TestMain(m *testing.M) { brokertest.Main(m) }

// block is the newest block of a host's Log.
func block(t *testing.T, h *brokertest.Host) (blocks.File, index.Source) {
	t.Helper()
	dirs, err := blocks.Find(filepath.Join(h.Config.Dir, broker.StoreDir))
	require.NoError(t, err)
	files, err := blocks.List(dirs[0])
	require.NoError(t, err)
	f := files[len(files)-1]
	info, err := os.Stat(f.Path)
	require.NoError(t, err)
	return f, index.Source{Log: 1, Size: info.Size(), Mod: info.ModTime().UnixNano()}
}

func appendSome(t *testing.T, h *brokertest.Host, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		e := event.Event{Type: "test.even", StreamID: fmt.Sprint("s", i%3), Actor: fmt.Sprint("a", i%5), CorrelationID: fmt.Sprint("c", i/10), Timestamp: time.UnixMilli(int64(1000 + i))}
		if i%2 == 1 {
			e.Type = "test.odd"
		}
		_, err := h.Client.Append(t.Context(), e)
		require.NoError(t, err)
	}
}

// The index of a block gives the same while it grows, and from its file.
func TestIndexGrowsAndIsWritten(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	appendSome(t, h, 0, 20)
	f, _ := block(t, h)
	g := index.Grow(f, 1)
	require.Zero(t, g.Last())
	require.NoError(t, g.Extend())
	require.EqualValues(t, 20, g.Last())
	appendSome(t, h, 20, 40)
	require.NoError(t, g.Extend())
	require.EqualValues(t, 1, g.First())
	require.EqualValues(t, 60, g.Last())
	_, of := block(t, h)
	dir := t.TempDir()
	written, err := g.Write(dir, of)
	require.NoError(t, err)
	opened, err := index.Open(dir, f.Index, of)
	require.NoError(t, err)
	require.Equal(t, written, opened)
	for _, q := range []struct {
		index.Query
		after, until event.Sequence
		want         int
	}{
		{index.Query{}, 0, 60, 60},
		{index.Query{}, 10, 20, 10},
		{index.Query{}, 60, 100, 0},
		{index.Query{Subjects: []string{"events.>"}}, 0, 60, 60},
		{index.Query{Subjects: []string{"guards.>"}}, 0, 60, 0},
		{index.Query{Subjects: []string{"events.test.odd.*"}}, 0, 60, 30},
		{index.Query{Subjects: []string{"events.test.odd.s0"}}, 0, 60, 10},
		{index.Query{Subjects: []string{"events.test.odd.s0", "events.test.even.s1"}}, 0, 60, 20},
		{index.Query{Subjects: []string{"events.*.*.s2"}}, 0, 60, 20},
		{index.Query{Actor: "a4"}, 0, 60, 12},
		{index.Query{Actor: "a4", CorrelationID: "c1"}, 0, 60, 2},
		{index.Query{Actor: "nobody"}, 0, 60, 0},
		{index.Query{Since: 1010, Until: 1019}, 0, 60, 10},
		{index.Query{Since: 2000}, 0, 60, 0},
		{index.Query{Until: 1}, 0, 60, 0},
		{index.Query{Subjects: []string{"events.test.even.*"}, Since: 1010, Until: 1019}, 0, 15, 3},
	} {
		in, err := opened.Find(q.Query, q.after, q.until)
		require.NoError(t, err)
		require.Len(t, in, q.want, "%+v", q)
		memory, err := g.Find(q.Query, q.after, q.until)
		require.NoError(t, err)
		require.Equal(t, memory, in)
		r, err := blocks.NewReader(f)
		require.NoError(t, err)
		for _, p := range in {
			require.NoError(t, r.Load(p.Off, p.End))
			rec, err := r.Record(p.Off, p.Seq)
			require.NoError(t, err)
			require.True(t, q.Wants(rec.Subject))
			_, err = r.Record(p.Off, p.Seq+1)
			require.ErrorContains(t, err, "should be")
		}
		r.Close()
	}
	for _, other := range []index.Source{{Log: 2, Size: of.Size, Mod: of.Mod}, {Log: 1, Size: of.Size + 1, Mod: of.Mod}, {Log: 1, Size: of.Size, Mod: of.Mod + 1}} {
		_, err := index.Open(dir, f.Index, other)
		require.ErrorContains(t, err, "another block")
	}
	require.NoError(t, os.Rename(index.Path(dir, f.Index), index.Path(dir, f.Index+1)))
	_, err = index.Open(dir, f.Index+1, of)
	require.ErrorContains(t, err, "another block")
}

// An end that is no whole record is left for later; one that is another than before is
// noticed; what is missing or damaged is not indexed.
func TestIndexOfWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	appendSome(t, h, 0, 20)
	f, _ := block(t, h)
	raw, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	copied := blocks.File{Index: f.Index, Path: filepath.Join(t.TempDir(), filepath.Base(f.Path))}
	write := func(b []byte) index.Source {
		require.NoError(t, os.WriteFile(copied.Path, b, 0o600))
		copied.Size = int64(len(b))
		return index.Source{Log: 1, Size: copied.Size}
	}
	of := write(raw[:len(raw)-3])
	g := index.Grow(copied, 1)
	require.NoError(t, g.Extend())
	require.EqualValues(t, 19, g.Last())
	_, err = g.Write(t.TempDir(), of)
	require.ErrorIs(t, err, index.ErrNotWhole)
	write(raw)
	require.NoError(t, g.Extend())
	require.EqualValues(t, 20, g.Last())

	write(raw[:len(raw)/2]) // cut off
	require.ErrorIs(t, g.Extend(), index.ErrNotWhole)
	other := append([]byte(nil), raw...) // and written anew
	other[len(other)-1] ^= 1
	write(other)
	require.ErrorIs(t, g.Extend(), index.ErrNotWhole)

	other = append([]byte(nil), raw...)
	other[len(other)/2] ^= 1
	of = write(other)
	g = index.Grow(copied, 1)
	require.NoError(t, g.Extend())
	_, err = g.Write(t.TempDir(), of)
	require.ErrorIs(t, err, index.ErrNotWhole)

	found, err := blocks.CheckFile(f)
	require.NoError(t, err)
	require.EqualValues(t, 20, found.Records)
	var places []int64
	_, err = blocks.Walk(f.Path, f.Index, func(off int64, _ []byte, _ blocks.Record) error { places = append(places, off); return nil })
	require.NoError(t, err)
	write(append(append([]byte(nil), raw[:places[5]]...), raw[places[6]:]...)) // one record less
	require.ErrorIs(t, index.Grow(copied, 1).Extend(), index.ErrNotWhole)
}
