package mirror

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// place is a line: its file's name, and its number.
type place struct {
	file string
	line int
}

// badLine verifies, and returns the first bad line.
func badLine(t testing.TB, cfg Config) (place, error) {
	t.Helper()
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	switch p := report.Problem.(type) {
	case *DamageError:
		return place{filepath.Base(p.File), p.Line}, p
	case *TornError:
		return place{filepath.Base(p.File), p.Line}, p
	case nil:
		return place{}, nil
	default:
		return place{}, p
	}
}

// places gives all lines of the files, in order, with their text.
func places(t *testing.T, dir string) (at []place, text []string) {
	t.Helper()
	files, err := list(dir)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f.path)
		require.NoError(t, err)
		for i, l := range strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n") {
			at = append(at, place{filepath.Base(f.path), i + 1})
			text = append(text, strings.TrimSuffix(l, "\n")+"\n")
		}
	}
	return at, text
}

// join is the inverse of places.
func join(at []place, text []string) map[string]string {
	out := map[string]string{}
	for i, p := range at {
		out[p.file] += text[i]
	}
	return out
}

func TestVerifyNamesTheChangedByte(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		maxBytes int64
		flip     byte
	}{{"one file", -1, 0x20}, {"two files", 900, 1}} { // 0x20 makes zero bytes and other cases, 1 other digits
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, cfg := small(t, 5, c.maxBytes)
			catchUp(t, cfg)
			at, text := places(t, cfg.Dir)
			for i := range text {
				for j := 0; j < len(text[i]); j += longtest.Pick(31, 1) {
					line := []byte(text[i])
					line[j] ^= c.flip
					changed := append(append([]string{}, text[:i]...), string(line))
					put(t, cfg.Dir, join(at, append(changed, text[i+1:]...)))
					got, err := badLine(t, cfg)
					require.Equal(t, at[i], got, "byte %d: %v", j, err)
				}
			}
			put(t, cfg.Dir, join(at, text))
			requireEqual(t, cfg)
		})
	}
}

func TestVerifyNamesRemovedAndSwappedLines(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 8, 1000)
	catchUp(t, cfg)
	at, text := places(t, cfg.Dir)
	require.Len(t, get(t, cfg.Dir), 3)

	for i := range text {
		files := join(append(append([]place{}, at[:i]...), at[i+1:]...), append(append([]string{}, text[:i]...), text[i+1:]...))
		if files[at[i].file] == "" {
			files[at[i].file] = "" // an empty file, not none
		}
		put(t, cfg.Dir, files)
		got, err := badLine(t, cfg)
		if i == len(text)-1 {
			var behind *BehindError
			require.ErrorAs(t, err, &behind)
			require.EqualValues(t, 1, behind.Events)
			continue
		}
		want := at[i] // where the next line stands now,
		if at[i+1].file != at[i].file && files[at[i].file] != "" {
			want = at[i+1] // unless that is in the next file
		}
		require.Equal(t, want, got, "line %d removed: %v", i, err)
	}
	for i := range text {
		for j := i + 1; j < len(text); j++ {
			swapped := append([]string{}, text...)
			swapped[i], swapped[j] = text[j], text[i]
			put(t, cfg.Dir, join(at, swapped))
			got, err := badLine(t, cfg)
			require.Equal(t, at[i], got, "lines %d and %d swapped: %v", i, j, err)
		}
	}
	// A line that is written twice, and one that nobody wrote.
	for i := range text {
		put(t, cfg.Dir, join(append(append(append([]place{}, at[:i+1]...), at[i]), at[i+1:]...),
			append(append(append([]string{}, text[:i+1]...), text[i]), text[i+1:]...)))
		got, err := badLine(t, cfg)
		require.Equal(t, place{at[i].file, at[i].line + 1}, got, "%v", err)
	}
}

// Someone who computes chains can write a file that is whole in itself. The Log
// tells.
func TestVerifyComparesWithTheLog(t *testing.T) {
	t.Parallel()
	h, cfg := small(t, 5, -1)
	catchUp(t, cfg)
	var lines []Line
	for l, err := range Lines(cfg.Dir) {
		require.NoError(t, err)
		lines = append(lines, l)
	}
	forge := func(change func([]Line) []Line) {
		var out []byte
		c, sum := origin, newChainer()
		for _, l := range change(append([]Line{}, lines...)) {
			out, c = sum.appendLine(out, l.Recorded.Seq, l.Body, c)
		}
		put(t, cfg.Dir, map[string]string{ActiveName: string(out)})
	}
	forge(func(l []Line) []Line { return l })
	requireEqual(t, cfg)
	for i := range lines {
		forge(func(l []Line) []Line {
			l[i].Body = []byte(strings.Replace(string(l[i].Body), `"actor":"agent`, `"actor":"tnega`, 1))
			return l
		})
		got, _ := badLine(t, cfg)
		require.Equal(t, place{ActiveName, i + 1}, got)
		forge(func(l []Line) []Line { return append(l[:i], l[i+1:]...) })
		got, err := badLine(t, cfg)
		if i == len(lines)-1 {
			require.ErrorAs(t, err, new(*BehindError))
		} else {
			require.Equal(t, place{ActiveName, i + 1}, got)
		}
	}
	// A line for a guard's position, at the end and in between.
	forge(func(l []Line) []Line {
		extra := l[2]
		extra.Recorded.Seq++ // guards stand before the events 1 and 4
		return append(l[:3], append([]Line{extra}, l[3:]...)...)
	})
	got, err := badLine(t, cfg)
	require.Equal(t, place{ActiveName, 4}, got, "%v", err)
	guard(t, h, wire.GuardSubject(event.GuardUser, "u"))
	forge(func(l []Line) []Line {
		extra := l[2]
		extra.Recorded.Seq = l[4].Recorded.Seq + 1
		return append(l, extra)
	})
	got, _ = badLine(t, cfg)
	require.Equal(t, place{ActiveName, 6}, got)
	forge(func(l []Line) []Line {
		extra := l[2]
		extra.Recorded.Seq = l[4].Recorded.Seq + 2
		return append(l, extra)
	})
	_, err = badLine(t, cfg)
	require.ErrorAs(t, err, new(*AheadError))
}

func TestVerifyWithoutTheOldestFiles(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, 700)
	catchUp(t, cfg)
	files, err := list(cfg.Dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	require.NoError(t, os.Remove(files[0].path))
	report, err := Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, report.Problem)
	require.True(t, report.Anchored)
	require.Equal(t, files[1].first, report.First)
	require.EqualValues(t, 9, report.Before+report.Lines)

	// A changed first line is seen all the same.
	b, err := os.ReadFile(files[1].path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files[1].path, []byte(strings.Replace(string(b), "agent", "agemt", 1)), 0o600))
	got, _ := badLine(t, cfg)
	require.Equal(t, place{filepath.Base(files[1].path), 1}, got)

	// The active file's name vouches for nothing.
	for _, f := range files[1 : len(files)-1] {
		require.NoError(t, os.Remove(f.path))
	}
	got, err = badLine(t, cfg)
	require.Equal(t, place{ActiveName, 1}, got, "%v", err)
}

func TestVerifyCountsWhatIsBehind(t *testing.T) {
	t.Parallel()
	h, cfg := small(t, 5, -1)
	report, err := Verify(t.Context(), cfg) // there is no file at all
	require.NoError(t, err)
	require.EqualValues(t, 5, report.Behind)
	var behind *BehindError
	require.ErrorAs(t, report.Problem, &behind)
	require.Equal(t, filepath.Join(cfg.Dir, ActiveName), behind.File)
	catchUp(t, cfg)
	appendAll(t, h.Client, mixed(2)...)
	guard(t, h, wire.GuardSubject(event.GuardUser, "u"))
	report, err = Verify(t.Context(), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 2, report.Behind)
	require.EqualValues(t, 5, report.Lines)
}

func TestVerifyOverlappingFiles(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 5, -1)
	catchUp(t, cfg)
	text := content(t, cfg.Dir)
	copied := rotatedName(6)
	rest := text[strings.Index(text, `{"seq":6,`):]
	put(t, cfg.Dir, map[string]string{ActiveName: text, copied: rest})
	got, err := badLine(t, cfg)
	require.Error(t, err)
	require.Equal(t, place{ActiveName, 1}, got)
	require.ErrorAs(t, Check(t.Context(), cfg), new(*DamageError))
}

// Verify beside a live writer, which rotates, finds nothing wrong.
func TestVerifyBesideTheWriter(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	cfg := configOf(t, h)
	cfg.MaxBytes, cfg.VerifyWait = 3000, 10*time.Second
	r := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		c := h.NewClient(t, client.Config{})
		writers.Go(func() {
			for n := 0; ctx.Err() == nil && n < 3000; n++ {
				_, _ = c.Append(ctx, mixed(n%8 + 1)[n%8]) // ends with ctx
			}
		})
	}
	for range longtest.Pick(10, 40) {
		report, err := Verify(t.Context(), cfg)
		require.NoError(t, err)
		require.NoError(t, report.Problem)
	}
	cancel()
	writers.Wait()
	r.reach(t, position(t, h.Client))
	require.NoError(t, r.stop(t))
	requireEqual(t, cfg)
}

// The writer rotates right between two steps of the reader.
func TestReaderFollowsRotation(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 6, -1)
	catchUp(t, cfg)
	_, line := places(t, cfg.Dir)
	active := filepath.Join(cfg.Dir, ActiveName)
	rotate := func(first int, rest, next string) { // what is still written, and the new file
		require.NoError(t, appendTo(active, rest))
		require.NoError(t, os.Rename(active, filepath.Join(cfg.Dir, rotatedName(event.Sequence(first)))))
		require.NoError(t, os.WriteFile(active, []byte(next), 0o600))
	}
	for _, where := range []string{"end", "listed"} {
		put(t, cfg.Dir, map[string]string{ActiveName: line[0] + line[1]})
		r := openDir(cfg.Dir)
		r.hook = func(now string) {
			if now == where {
				r.hook = nil
				rotate(2, line[2], line[3])
			}
		}
		for i := range 4 {
			l, err := r.next()
			require.NoError(t, err, "%s, line %d", where, i)
			require.Equal(t, i%3+1, l.Number)
		}
		_, err := r.next()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, appendTo(active, line[4][:40]))
		_, err = r.next()
		require.ErrorAs(t, err, new(*TornError))
		rotate(6, line[4][40:], "")
		_, err = r.next()
		require.NoError(t, err)
		_, err = r.next()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, appendTo(active, line[5]))
		_, err = r.next()
		require.NoError(t, err)
		r.close()
	}
}

func TestLinesReportsWhereItStops(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 4, -1)
	catchUp(t, cfg)
	text := content(t, cfg.Dir)
	read := func() (n int, last error) {
		for _, err := range Lines(cfg.Dir) {
			if err != nil {
				last = err
				continue
			}
			n++
		}
		return n, last
	}
	n, err := read()
	require.NoError(t, err)
	require.Equal(t, 4, n)
	put(t, cfg.Dir, map[string]string{ActiveName: text[:len(text)-9]})
	n, err = read()
	require.Equal(t, 3, n)
	require.Equal(t, &TornError{filepath.Join(cfg.Dir, ActiveName), 4}, err)
	put(t, cfg.Dir, map[string]string{ActiveName: strings.Replace(text, `"seq":4,`, `"seq":5,`, 1)})
	n, err = read()
	require.Equal(t, 2, n) // the lines have seq 2, 3, 4, 6
	damage := err.(*DamageError)
	require.EqualValues(t, 5, damage.Seq)
	require.Equal(t, 3, damage.Line)
	for range Lines(cfg.Dir) {
		break // ends it
	}
	put(t, cfg.Dir, nil)
	n, err = read()
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, "", fmt.Sprint(strings.Join(names(get(t, cfg.Dir)), "")))
}
