package legacy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const ext = ".jsonl"

// Files returns the files that the original module made of path, in the order of
// their content: its rotated siblings, then path itself. A sibling is in the same
// folder and is called <name>_2026-01-02.jsonl, after the UTC day that it is of
// and sorted at the end of it, or <name>_1735689600000.jsonl, after the moment of
// its rotation in Unix ms. What our own mirror rotates (<name>.seq-<n>.jsonl) or
// keeps (<name>.original.jsonl) is no sibling.
//
// If path does not exist, its siblings alone are returned; if there are none, the
// error is fs.ErrNotExist.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing:
		return nil, fmt.Errorf("legacy: %w", err)
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("legacy: %s is a folder; name the file of the original module in it, such as %s",
			path, filepath.Join(path, "durable_stream.jsonl"))
	}
	files, err := siblings(path)
	if err != nil && !missing {
		return nil, fmt.Errorf("legacy: look for rotated files beside %s: %w", path, err)
	}
	if !missing {
		return append(files, path), nil
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("legacy: %s does not exist, and no rotated file of it lies beside it; check the name: %w", path, fs.ErrNotExist)
	}
	return files, nil
}

func siblings(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	name, ok := strings.CutSuffix(base, ext)
	if !ok {
		return nil, nil // the original rotates only what is called .jsonl
	}
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	type sibling struct {
		path string
		end  int64 // when its content ended, Unix ms
	}
	var found []sibling
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), name+"_")
		stamp, ok2 := strings.CutSuffix(stamp, ext)
		if !ok || !ok2 || e.IsDir() {
			continue
		}
		if end, ok := stampEnd(stamp); ok {
			found = append(found, sibling{filepath.Join(dir, e.Name()), end})
		}
	}
	slices.SortFunc(found, func(a, b sibling) int {
		// At midnight the day that ended comes before what was rotated then.
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(len(a.path), len(b.path)))
	})
	var out []string
	for _, s := range found {
		out = append(out, s.path)
	}
	return out, nil
}

// stampEnd reads what the original put into the name of a rotated file: a day, or
// the 13 digits of a Unix time in ms between 2001 and 2286. Other names, such as
// durable_stream_2.jsonl, are somebody's own.
func stampEnd(stamp string) (ms int64, ok bool) {
	if day, err := time.Parse(time.DateOnly, stamp); err == nil {
		return day.AddDate(0, 0, 1).UnixMilli(), true
	}
	if len(stamp) != 13 {
		return 0, false
	}
	n, err := strconv.ParseUint(stamp, 10, 63)
	return int64(n), err == nil
}
