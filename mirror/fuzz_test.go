package mirror

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// FuzzLines: whatever is in the files, the reader and the resume end without a
// panic, and each line that they accept is one that this package could have
// written, behind the one before.
func FuzzLines(f *testing.F) {
	var text []byte
	c, sum := origin, newChainer()
	for i := range event.Sequence(3) {
		body := `{"id":"i","type":"a.b","stream_id":"s","correlation_id":"c","actor":"a","timestamp":1,"payload":{"x":"é<"}}`
		text, c = sum.appendLine(text, 2*i+2, []byte(body), c)
	}
	lines := strings.SplitAfter(string(text), "\n")
	f.Add(text, []byte(nil), false)
	f.Add([]byte(lines[0]), []byte(lines[1]+lines[2]), true)
	f.Add([]byte(lines[0]), []byte(lines[1]+lines[2][:50]), true)
	f.Add([]byte(lines[0]+"\x00\x00"), []byte(lines[1]+"\x00\x00\n"+lines[2]), true)
	f.Add([]byte(`{"type":"a.b","id":"0mw"}`+"\n"), []byte{}, true)
	f.Add([]byte(lines[1]), []byte(lines[0]), true)
	f.Fuzz(func(t *testing.T, older, newer []byte, forge bool) {
		dir := t.TempDir()
		if forge {
			var c chain
			older, c = rechain(older, origin)
			newer, _ = rechain(newer, c)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, rotatedName(2)), older, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, ActiveName), newer, 0o600))
		for _, with := range []bool{true, false} {
			if !with {
				require.NoError(t, os.Remove(filepath.Join(dir, rotatedName(2))))
			}
			var seq event.Sequence
			var last *Line
			var end error
			for l, err := range Lines(dir) {
				require.NoError(t, end, "an error is the end")
				if end = err; err != nil {
					continue
				}
				require.Greater(t, l.Recorded.Seq, seq)
				seq = l.Recorded.Seq
				again, err := event.DecodeBody(l.Body)
				require.NoError(t, err)
				again.Seq = seq
				require.Equal(t, again, l.Recorded)
				if last != nil {
					_, c := sum.appendLine(nil, seq, l.Body, chain([]byte(last.Chain)))
					require.Equal(t, string(c[:]), l.Chain)
				}
				last = &l
			}
			e, err := findEnds(dir)
			if err == nil && end == nil && last != nil {
				require.Equal(t, last.Body, e.newest.Body, "resume goes on behind the last line")
				require.Equal(t, last.Chain, e.newest.Chain)
				require.Equal(t, e.size, e.keep)
			}
			var torn *TornError
			if errors.As(end, &torn) && err == nil {
				require.Less(t, e.keep, e.size, "resume cuts what is torn")
			}
		}
	})
}

// rechain gives every line the chain that it should have: a fuzzer does not guess
// SHA-256, and what is behind that check is to be reached as well.
func rechain(text []byte, c chain) ([]byte, chain) {
	sum := newChainer()
	var out []byte
	for line := range bytes.Lines(text) {
		if at := bytes.LastIndex(line, []byte(chainKey)); at > 0 {
			c = sum.next(c, line[:at])
			line = append(append(append(line[:at:at], chainKey...), c[:]...), "\"}\n"...)
		}
		out = append(out, line...)
	}
	return out, c
}
