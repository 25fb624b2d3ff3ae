package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figures are what the benchmarks measured: benchmark → unit → one value a run.
type figures map[string]map[string][]float64

var procs = regexp.MustCompile(`-\d+$`)

// errNothing is a run in which no benchmark had the name that was asked for.
var errNothing = errors.New("nothing was measured: no benchmark has that name. go test -list Benchmark ./bench lists them")

// read reads the output of go test, and passes it on as it comes.
func read(in io.Reader, progress io.Writer) (figures, error) {
	f := figures{}
	var failed, passed bool
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(progress, line)
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(line, "--- FAIL"), strings.HasPrefix(line, "panic:"):
			failed = true
		case line == "PASS":
			passed = true
		case len(words) >= 4 && strings.HasPrefix(line, "Benchmark"):
			f.add(procs.ReplaceAllString(strings.TrimPrefix(words[0], "Benchmark"), ""), words[2:])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if failed || !passed {
		return nil, errors.New("the benchmarks did not end well: no table is made of them")
	}
	if len(f) == 0 {
		return nil, errNothing
	}
	return f, nil
}

func (f figures) add(name string, pairs []string) {
	if f[name] == nil {
		f[name] = map[string][]float64{}
	}
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		if v, err := strconv.ParseFloat(pairs[0], 64); err == nil {
			f[name][pairs[1]] = append(f[name][pairs[1]], v)
		}
	}
}

// at gives the figure "Benchmark unit", the median where there are several runs.
func (f figures) at(ref string) (v float64, unit string, ok bool) {
	bench, unit, _ := strings.Cut(ref, " ")
	all := slices.Sorted(slices.Values(f[bench][unit]))
	if len(all) == 0 {
		return 0, unit, false
	}
	return all[len(all)/2], unit, true
}

// say writes a figure for people, and in brackets what was measured with it: the p99 of a
// p50, both of a rate, the slowest of a few.
func (f figures) say(ref string) string {
	v, unit, ok := f.at(ref)
	if !ok {
		return "?"
	}
	var beside []string
	for _, b := range []struct{ of, is, label string }{
		{"/s", "-p50-µs", "p50"}, {"/s", "-p99-µs", "p99"}, {"-p50-µs", "-p99-µs", "p99"}, {"-ms", "-slowest-ms", "slowest"},
	} {
		stem, ok := strings.CutSuffix(ref, b.of)
		if _, _, many := f.at(stem + "-p99-µs"); !ok || b.of == "/s" && !many { // a p50 of a few whole readings is no latency
			continue
		}
		if v, unit, ok := f.at(stem + b.is); ok {
			beside = append(beside, b.label+" "+amount(v, unit))
		}
	}
	if len(beside) == 0 {
		return amount(v, unit)
	}
	return amount(v, unit) + " (" + strings.Join(beside, ", ") + ")"
}

func amount(v float64, unit string) string {
	switch {
	case strings.HasSuffix(unit, "-µs"):
		return milliseconds(v / 1000)
	case strings.HasSuffix(unit, "-ms"):
		return milliseconds(v)
	case strings.HasSuffix(unit, "/s"):
		return thousands(v) + "/s"
	case strings.HasSuffix(unit, "-MB"):
		return fmt.Sprintf("%.0f MB", v)
	case strings.HasSuffix(unit, "-B/event"):
		return fmt.Sprintf("%.0f bytes", v)
	}
	return fmt.Sprintf("%g %s", v, unit)
}

func milliseconds(ms float64) string {
	switch {
	case ms >= 1000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
