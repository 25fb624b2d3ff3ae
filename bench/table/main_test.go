package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// measured is the output of a run in which every figure of the table is v, but for
// those given.
func measured(v float64, but map[string]float64) string {
	refs := map[string]bool{}
	for _, r := range rows("1000000") {
		refs[r.ours] = true
		if !strings.HasPrefix(r.theirs, "= ") {
			refs[r.theirs] = true
		}
	}
	for _, g := range grid {
		for _, n := range []string{"10000", "100000", "1000000"} {
			refs["Log/"+n+"/"+g.ref] = true
		}
	}
	var b strings.Builder
	for ref := range refs {
		bench, unit, _ := strings.Cut(ref, " ")
		value, ok := but[ref]
		if !ok {
			value = v
		}
		fmt.Fprintf(&b, "Benchmark%s-2 \t 1 \t %g %s\n", bench, value, unit)
	}
	return b.String() + "PASS\n"
}

const document = "# Performance\n\n" + begins + "\nold\n" + ends + "\nmore\n"

func TestTableIsWrittenBetweenTheMarks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "performance.md")
	require.NoError(t, os.WriteFile(path, []byte(document), 0o600))
	var out strings.Builder
	in := measured(40, map[string]float64{"AppendOne ours-p50-µs": 45, "AppendOne bare-p50-µs": 40, "Log/1000000/query jsonl-ms": 900})
	require.NoError(t, run(strings.NewReader(in), &out, io.Discard, path))
	require.Contains(t, out.String(), "| append, one at a time, p50 | 0.04 ms | bare publish | 0.04 ms | 1.12 | at most 1.1 | **no** |")
	require.Contains(t, out.String(), "| resume in 1,000,000 | 40.0 ms | parsing the JSONL | 900 ms | 22.50 times faster | at least 20 | yes |")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), out.String())
	require.NotContains(t, string(text), "old")
	require.True(t, strings.HasPrefix(string(text), "# Performance\n") && strings.HasSuffix(string(text), "\nmore\n"))
}

// A run that failed, or that lacks a figure, makes no table.
func TestNoTableOfHalfARun(t *testing.T) {
	t.Parallel()
	whole := measured(1, nil)
	cut := strings.Split(whole, "\n")
	for name, in := range map[string]string{
		"failed":         "--- FAIL: BenchmarkLive\n" + whole,
		"without an end": strings.TrimSuffix(whole, "PASS\n"),
		"without a line": strings.Join(cut[1:], "\n"),
		"empty":          "",
	} {
		path := filepath.Join(t.TempDir(), "performance.md")
		require.NoError(t, os.WriteFile(path, []byte(document), 0o600))
		require.Error(t, run(strings.NewReader(in), io.Discard, io.Discard, path), name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, document, string(text), name)
	}
}

// What was measured with a figure stands in brackets beside it.
func TestBesideAFigure(t *testing.T) {
	t.Parallel()
	f, err := read(strings.NewReader(strings.Join([]string{
		"BenchmarkMany-2 1 6059 ours/s 1290 ours-p50-µs 3100 ours-p99-µs",
		"BenchmarkFew-2 1 200000 ours/s 430000 ours-p50-µs",
		"BenchmarkQuery-2 1 555 stream-ms 701 stream-slowest-ms 9 stream-bare-ms", "PASS"}, "\n")), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "6,059/s (p50 1.29 ms, p99 3.10 ms)", f.say("Many ours/s"))
	require.Equal(t, "1.29 ms (p99 3.10 ms)", f.say("Many ours-p50-µs"))
	require.Equal(t, "200,000/s", f.say("Few ours/s"))
	require.Equal(t, "555 ms (slowest 701 ms)", f.say("Query stream-ms"))
	require.Equal(t, "9.00 ms", f.say("Query stream-bare-ms"))
}

// A name that no benchmark has is told.
func TestNothingMeasured(t *testing.T) {
	t.Parallel()
	_, err := read(strings.NewReader("PASS\nok  \texample.com/bench\t0.01s\n"), io.Discard)
	require.ErrorIs(t, err, errNothing)
}

func TestMedianOfRuns(t *testing.T) {
	t.Parallel()
	f, err := read(strings.NewReader("BenchmarkA/b-c-16 1 5 x/s\nBenchmarkA/b-c-16 1 1 x/s\nBenchmarkA/b-c-16 1 9000 x/s\nPASS\n"), io.Discard)
	require.NoError(t, err)
	v, unit, ok := f.at("A/b-c x/s")
	require.True(t, ok)
	require.Equal(t, 5.0, v)
	require.Equal(t, "5/s", amount(v, unit))
}
