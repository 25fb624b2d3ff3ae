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
	"durablestream/internal/longtest"
	"durablestream/internal/wire"
)

// remaining gives the lines that are left in dir by their Sequences, and whether each is
// proven.
func remaining(t *testing.T, dir string) (proven map[event.Sequence]bool, problem error) {
	t.Helper()
	proven = map[event.Sequence]bool{}
	for l, err := range Remains(dir) {
		if err != nil {
			require.NoError(t, problem)
			problem = err
			continue
		}
		proven[l.Recorded.Seq] = l.Proven
	}
	return proven, problem
}

// Whichever byte of a mirror is changed, no line is brought that is not as it was, and no
// more than the lines that it belongs to are missing.
func TestRemainsOfEachByte(t *testing.T) {
	t.Parallel()
	for name, maxBytes := range map[string]int64{"one file": -1, "two files": 900} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := small(t, 5, maxBytes)
			catchUp(t, cfg)
			was := map[event.Sequence]string{}
			for l, err := range Lines(cfg.Dir) {
				require.NoError(t, err)
				was[l.Recorded.Seq] = string(l.Body)
			}
			for file, text := range get(t, cfg.Dir) {
				for i := 0; i < len(text); i += longtest.Pick(31, 1) {
					for _, flip := range []byte{1, 0x20} {
						bad := []byte(text)
						bad[i] ^= flip
						require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, file), bad, 0o600))
						left := 0
						for l, err := range Remains(cfg.Dir) {
							if err != nil {
								continue
							}
							left++
							if l.Proven {
								require.Equal(t, was[l.Recorded.Seq], string(l.Body), "%s, byte %d", file, i)
							}
						}
						lines := 1
						if text[i] == '\n' || bad[i] == '\n' {
							lines = 2
						}
						require.GreaterOrEqual(t, left, len(was)-lines, "%s, byte %d", file, i)
					}
				}
				require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, file), []byte(text), 0o600))
			}
		})
	}
}

func TestRemains(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, -1)
	catchUp(t, cfg)
	active := filepath.Join(cfg.Dir, ActiveName)
	text, err := os.ReadFile(active)
	require.NoError(t, err)
	lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	var seqs []event.Sequence
	for l, err := range Lines(cfg.Dir) {
		require.NoError(t, err)
		seqs = append(seqs, l.Recorded.Seq)
	}
	require.Len(t, seqs, len(lines))
	n := len(lines)
	for _, c := range []struct {
		name     string
		change   func(lines [][]byte) [][]byte
		gone     []int // lines
		unproven []int
	}{
		{"whole", func(l [][]byte) [][]byte { return l }, nil, nil},
		{"a line is missing", func(l [][]byte) [][]byte { return append(l[:3:3], l[4:]...) }, []int{3}, []int{4}},
		{"two lines are exchanged", func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l }, []int{3}, []int{4}},
		{"a line's end is gone", func(l [][]byte) [][]byte { l[3] = bytes.TrimSuffix(l[3], []byte("\n")); return l }, []int{3, 4}, nil},
		{"a line's content", func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte(`"test.`), []byte(`"text.`), 1)
			return l
		}, nil, []int{3}}, // which could be for a line that is missing before it
		{"a line's content, with none missing", func(l [][]byte) [][]byte {
			l[4] = bytes.Replace(l[4], []byte(`"test.`), []byte(`"text.`), 1)
			return l
		}, []int{4}, nil},
		{"a line's chain", func(l [][]byte) [][]byte { l[3][len(l[3])-10] = 'x'; return l }, nil, nil},
		{"zeros over two lines", func(l [][]byte) [][]byte { clear(l[3][20:]); clear(l[4][:60]); return l }, []int{3, 4}, nil},
		{"the last", func(l [][]byte) [][]byte {
			l[n-1] = bytes.Replace(l[n-1], []byte(`"test.`), []byte(`"text.`), 1)
			return l
		}, []int{n - 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := make([][]byte, n)
			for i, l := range lines {
				changed[i] = bytes.Clone(l)
			}
			require.NoError(t, os.WriteFile(active, append(bytes.Join(c.change(changed), nil), '\n'), 0o600))
			got, problem := remaining(t, cfg.Dir)
			require.Equal(t, c.name == "whole", problem == nil, "%v", problem)
			want := map[event.Sequence]bool{}
			for _, s := range seqs {
				want[s] = true
			}
			for _, i := range c.gone {
				delete(want, seqs[i])
			}
			for _, i := range c.unproven {
				want[seqs[i]] = false
			}
			require.Equal(t, want, got)
		})
	}
}

// What a log has lost comes out of a mirror that is damaged before it.
func TestSalvageBehindDamage(t *testing.T) {
	t.Parallel()
	_, cfg := small(t, 9, -1)
	catchUp(t, cfg)
	all := []wire.Range{{From: 1, To: 0}}
	whole, err := Salvage(cfg.Dir, all)
	require.NoError(t, err)
	require.NoError(t, whole.Problem)
	active := filepath.Join(cfg.Dir, ActiveName)
	text, err := os.ReadFile(active)
	require.NoError(t, err)
	first, rest, _ := strings.Cut(string(text), "\n")
	bad := first + "\n" + strings.Replace(rest, `"test.`, `"text.`, 1) // the second line's
	require.NoError(t, os.WriteFile(active, []byte(bad), 0o600))
	s, err := Salvage(cfg.Dir, all)
	require.NoError(t, err)
	var damage *DamageError
	require.True(t, errors.As(s.Problem, &damage))
	require.Equal(t, 2, damage.Line)
	require.Equal(t, whole.Last, s.Last)
	for seq, m := range s.Messages {
		require.Equal(t, whole.Messages[seq], m)
	}
	for seq, m := range whole.Messages {
		if s.Messages[seq] == nil {
			require.Equal(t, event.Sequence(3), seq, "%s", m.Subject)
		}
	}
}
