package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// An adoption that was killed at any step is repeated, and ends as one that was not.
func TestAdoptIsRepeated(t *testing.T) {
	t.Parallel()
	const original = `{"id":"e1","type":"task.created","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1735689600000,"payload":{}}` + "\n"
	put := func(content string) func(*testing.T, string, string) {
		return func(t *testing.T, path, _ string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	}
	for name, kill := range map[string]func(t *testing.T, path, kept string){
		"before the import":            nil,
		"after the mirror was written": func(*testing.T, string, string) {},
		"before the file had its other name": func(t *testing.T, path, kept string) {
			require.NoError(t, os.Rename(kept, path))
		},
		"before its first name was taken away": func(t *testing.T, path, kept string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Link(kept, path))
		},
		"before there was a mirror":      func(t *testing.T, path, _ string) { require.NoError(t, os.Remove(path)) },
		"with an empty mirror":           put(""),
		"with a torn mirror":             put(`{"seq":2,"id":"e`),
		"with the beginning of its head": put(`{"se`),
		"with pages that were not there": put("\x00\x00\x00\x00\x00\x00\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), ".opencode")
			require.NoError(t, os.Mkdir(dir, 0o700))
			path, kept := filepath.Join(dir, "durable_stream.jsonl"), filepath.Join(dir, "durable_stream.original.jsonl")
			put(original)(t, path, "")
			if kill != nil {
				status, _, words := dstream(t, "--dir", dir, "import", "--adopt")
				require.Zero(t, status, words)
				kill(t, path, kept)
			}
			status, _, words := dstream(t, "--dir", dir, "import", "--adopt")
			require.Zero(t, status, words)
			require.Contains(t, words, "kept as "+kept)
			b, err := os.ReadFile(kept)
			require.NoError(t, err)
			require.Equal(t, original, string(b))
			others, err := filepath.Glob(filepath.Join(dir, "*.original-*"))
			require.NoError(t, err)
			require.Empty(t, others)
			status, out, words := dstream(t, "--dir", dir, "query")
			require.Zero(t, status, words)
			require.Contains(t, out, `"id":"e1"`)
			status, _, words = dstream(t, "--dir", dir, "mirror", "verify")
			require.Zero(t, status, words)
		})
	}
}

// A second file of the original, after one that was adopted, is adopted as well.
func TestAdoptAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "durable_stream.jsonl")
	for _, id := range []string{"e1", "e2"} {
		_ = os.Remove(path)
		require.NoError(t, os.WriteFile(path, []byte(`{"id":"`+id+`","type":"task.created","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1,"payload":{}}`+"\n"), 0o600))
		status, _, words := dstream(t, "--dir", dir, "import", "--adopt")
		require.Zero(t, status, words)
	}
	require.FileExists(t, filepath.Join(dir, "durable_stream.original-2.jsonl"))
	_, out, _ := dstream(t, "--dir", dir, "query")
	require.Contains(t, out, "e2")
}
