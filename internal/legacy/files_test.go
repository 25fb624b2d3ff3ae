package legacy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/internal/legacy"
)

// touch makes empty files, and folders where a name ends in a slash.
func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		if n[len(n)-1] == '/' {
			require.NoError(t, os.Mkdir(filepath.Join(dir, n), 0o700))
			continue
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), nil, 0o600))
	}
}

func bases(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}

func TestFilesInOrderOfContent(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir,
		"durable_stream.jsonl",
		"durable_stream_2026-01-02.jsonl",
		"durable_stream_1767312000000.jsonl", // 2026-01-02 00:00 UTC: the end of the 1st
		"durable_stream_1767398399999.jsonl", // 2026-01-02 23:59:59.999
		"durable_stream_1767398400000.jsonl", // 2026-01-03 00:00: as late as the day file, and after it
		"durable_stream_1767398400001.jsonl",
		"durable_stream_2025-12-31.jsonl",
		"durable_stream_2026-01-01.jsonl",
		"durable_stream_1735689600000.jsonl", // 2025-01-01
		// Not the original's:
		"durable_stream.seq-1.jsonl", "durable_stream.original.jsonl", "durable_stream.original-2.jsonl",
		"durable_stream_2.jsonl", "durable_stream_2026-02-30.jsonl", "durable_stream_17356896000000.jsonl", "durable_stream_-73568960000.jsonl",
		"durable_stream_2026-01-02.jsonl.bak", "durable_stream_old.jsonl", "durable_stream_.jsonl", "my_durable_stream_2026-01-02.jsonl",
		"other.jsonl", "other_2026-01-02.jsonl", "durable_stream_2026-01-05.jsonl/",
	)
	want := []string{
		"durable_stream_1735689600000.jsonl",
		"durable_stream_2025-12-31.jsonl",
		"durable_stream_2026-01-01.jsonl",
		"durable_stream_1767312000000.jsonl",
		"durable_stream_1767398399999.jsonl",
		"durable_stream_2026-01-02.jsonl",
		"durable_stream_1767398400000.jsonl",
		"durable_stream_1767398400001.jsonl",
		"durable_stream.jsonl",
	}
	files, err := legacy.Files(filepath.Join(dir, "durable_stream.jsonl"))
	require.NoError(t, err)
	require.Equal(t, want, bases(files))
	for _, f := range files {
		require.FileExists(t, f)
	}

	files, err = legacy.Files(filepath.Join(dir, "other.jsonl"))
	require.NoError(t, err)
	require.Equal(t, []string{"other_2026-01-02.jsonl", "other.jsonl"}, bases(files))

	require.NoError(t, os.Remove(filepath.Join(dir, "durable_stream.jsonl")))
	files, err = legacy.Files(filepath.Join(dir, "durable_stream.jsonl"))
	require.NoError(t, err)
	require.Equal(t, want[:len(want)-1], bases(files), "the siblings of a file that is gone")
}

func TestFilesInTheWorkingFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	touch(t, ".", "a.jsonl", "a_2026-01-02.jsonl", "log.txt", "log_2026-01-02.txt", "log_2026-01-02.jsonl")
	files, err := legacy.Files("a.jsonl")
	require.NoError(t, err)
	require.Equal(t, []string{"a_2026-01-02.jsonl", "a.jsonl"}, files)

	files, err = legacy.Files("log.txt")
	require.NoError(t, err)
	require.Equal(t, []string{"log.txt"}, files)
}

func TestFilesThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "sub/")
	for _, name := range []string{"none.jsonl", "none/none.jsonl", "none.txt"} {
		_, err := legacy.Files(filepath.Join(dir, name))
		require.True(t, errors.Is(err, fs.ErrNotExist), "%v", err)
		require.ErrorContains(t, err, filepath.Join(dir, name)+" does not exist")
	}
	_, err := legacy.Files(filepath.Join(dir, "sub"))
	require.ErrorContains(t, err, "is a folder")
}
