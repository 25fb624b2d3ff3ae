package blocks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/engine"
	"durablestream/internal/longtest"
)

func stored(seq event.Sequence) Record {
	r := Record{
		Seq: seq, Time: int64(seq) * 1000, Subject: fmt.Sprintf("events.task.created.s%d", seq%3),
		Header: fmt.Appendf(nil, "NATS/1.0\r\nDs-Actor: a\r\nNats-Msg-Id: id-%d\r\n\r\n", seq), Data: fmt.Appendf(nil, `{"id":"id-%d","n":%d}`, seq, seq*seq),
	}
	if seq%4 == 0 {
		r.Subject, r.Header, r.Data = fmt.Sprintf("guards.user.g%d", seq), nil, []byte(`{"event":"x"}`)
	}
	return r
}

// write makes blocks of ten records each.
func write(t testing.TB, dir string, n int) {
	t.Helper()
	for i := 0; i*10 < n; i++ {
		var b []byte
		for seq := i*10 + 1; seq <= min(n, i*10+10); seq++ {
			b = append(b, stored(event.Sequence(seq)).encode(uint32(i+1))...)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.blk", i+1)), b, 0o600))
	}
}

func nothing(event.Sequence) (Record, bool) { return Record{}, false }

func TestWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, 35)
	rep, err := Check(dir, 1, 35)
	require.NoError(t, err)
	require.Empty(t, rep.Damage)
	require.Nil(t, rep.Torn)
	require.Equal(t, event.Sequence(35), rep.Last)
	require.Equal(t, uint64(35), rep.Records)
	rep, err = Check(dir, 1, 36)
	require.NoError(t, err)
	require.Equal(t, Range{From: 36, To: 36}, rep.Damage[0].Range)
}

// Every byte of a block, changed alone: it is found, no other position is missed, and
// it is put right from the record itself.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, 30)
	path := filepath.Join(dir, "2.blk")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 0; i < len(whole); i += longtest.Pick(31, 1) { // odd: each bit has its turn
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		rep, err := Check(dir, 1, 30)
		require.NoError(t, err)
		require.Len(t, rep.Damage, 1, "byte %d", i)
		require.Equal(t, uint64(1), rep.Damage[0].Count(), "byte %d: %v", i, rep.Damage)
		would, lost, err := Repair(t.Context(), dir, "", "", 1, 30, Known{Record: nothing})
		require.NoError(t, err)
		require.Empty(t, lost, "byte %d", i)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, bad, now, "byte %d", i)
		done, lost, err := Repair(t.Context(), dir, "", t.TempDir(), 1, 30, Known{Record: nothing})
		require.NoError(t, err)
		require.Empty(t, lost, "byte %d", i)
		require.Equal(t, []Repaired{{rep.Damage[0].From, Corrected}}, done)
		require.Equal(t, would, done)
		now, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, whole, now, "byte %d", i)
	}
}

// Blocks that are cut off, or gone: everything that was there is brought back from
// elsewhere, in its place.
func TestRepairFromElsewhere(t *testing.T) {
	t.Parallel()
	known := func(seq event.Sequence) (Record, bool) {
		r := stored(seq)
		r.Time, r.Seq = 0, 0
		return r, true
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"cut off": func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "2.blk"), 333)) },
		"the newest cut off": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "4.blk"), 100))
		},
		"gone":           func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "2.blk"))) },
		"the first gone": func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "1.blk"))) },
		"all gone": func(t *testing.T, dir string) {
			for i := range 4 {
				require.NoError(t, os.Remove(filepath.Join(dir, fmt.Sprintf("%d.blk", i+1))))
			}
		},
		"zeros": func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, "3.blk"), os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt(make([]byte, 500), 200)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, 35)
			damage(t, dir)
			rep, err := Check(dir, 1, 35)
			require.NoError(t, err)
			require.NotEmpty(t, rep.Damage)
			_, lost, err := Repair(t.Context(), dir, "", t.TempDir(), 1, 35, Known{Record: nothing})
			require.NoError(t, err)
			require.NotEmpty(t, lost)
			again, err := Check(dir, 1, 35)
			require.NoError(t, err)
			require.Equal(t, rep, again, "what cannot be repaired as a whole is left as it is")
			_, lost, err = Repair(t.Context(), dir, "", t.TempDir(), 1, 35, Known{Record: known})
			require.NoError(t, err)
			require.Empty(t, lost)
			rep, err = Check(dir, 1, 35)
			require.NoError(t, err)
			require.Empty(t, rep.Damage)
			files, err := List(dir)
			require.NoError(t, err)
			var due event.Sequence
			for _, f := range files {
				bad, err := Walk(f.Path, f.Index, func(_ int64, _ []byte, r Record) error {
					due++
					want := stored(due)
					require.Equal(t, want.Seq, r.Seq)
					require.Equal(t, want.Subject, r.Subject)
					require.True(t, bytes.Equal(want.Header, r.Header) && bytes.Equal(want.Data, r.Data))
					return nil
				})
				require.NoError(t, err)
				require.Empty(t, bad)
			}
			require.Equal(t, event.Sequence(35), due)
		})
	}
}

func BenchmarkCheckFile(b *testing.B) {
	dir := b.TempDir()
	var data []byte
	for seq := event.Sequence(1); len(data) < 8<<20; seq++ {
		r := stored(seq)
		r.Data = append(r.Data, bytes.Repeat([]byte(" "), 400)...)
		data = append(data, r.encode(1)...)
	}
	f := File{Index: 1, Path: filepath.Join(dir, "1.blk"), Size: int64(len(data))}
	require.NoError(b, os.WriteFile(f.Path, data, 0o600))
	b.SetBytes(f.Size)
	for b.Loop() {
		found, err := CheckFile(f)
		require.NoError(b, err)
		require.Empty(b, found.Bad)
	}
}

// Whatever becomes of a file, it is read to its end, and what is left of it is found.
func TestDamagedAtRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var whole []byte
	for seq := event.Sequence(1); seq <= 5; seq++ {
		whole = append(whole, stored(seq).encode(1)...)
	}
	path := filepath.Join(t.TempDir(), "1.blk")
	for range longtest.Pick(500, 5000) {
		data := bytes.Clone(whole)
		for range r.IntN(6) {
			data[r.IntN(len(data))] = byte(r.Int())
		}
		data = data[r.IntN(3)*r.IntN(len(data))/2:]
		if r.IntN(3) == 0 {
			data = data[:r.IntN(len(data)+1)]
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		b, err := CheckFile(File{1, path, int64(len(data))})
		require.NoError(t, err)
		at := int64(0)
		for _, s := range b.Bad {
			require.True(t, at <= s.Off && s.Off < s.End && s.End <= int64(len(data)), "%+v", b.Bad)
			at = s.End
		}
		if b.Records == 0 && len(data) > 0 {
			require.NotEmpty(t, b.Bad)
		}
	}
}

// compress makes of a block what the engine makes of it once it is full, in a stream with
// S2 compression.
func compress(t testing.TB, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var b bytes.Buffer
	w := s2.NewWriter(&b)
	_, err = w.Write(raw[:len(raw)-sumLen])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out := binary.AppendUvarint(engine.Compressed(), uint64(len(raw)))
	require.NoError(t, os.WriteFile(path, append(append(out, b.Bytes()...), raw[len(raw)-sumLen:]...), 0o600))
}

// A compressed block is read as it was; each byte of it, changed alone, is found, and what
// is missing then is brought back from elsewhere, in a block that is not compressed.
func TestCompressedBlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, 35)
	plain, err := os.ReadFile(filepath.Join(dir, "2.blk"))
	require.NoError(t, err)
	path := filepath.Join(dir, "2.blk")
	compress(t, path)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Less(t, len(raw), len(plain))
	rep, err := Check(dir, 1, 35)
	require.NoError(t, err)
	require.Empty(t, rep.Damage)
	require.Equal(t, uint64(35), rep.Records)
	done, lost, err := Repair(t.Context(), dir, "", t.TempDir(), 1, 35, Known{Record: nothing})
	require.NoError(t, err)
	require.Empty(t, done)
	require.Empty(t, lost)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, raw, after)
	for i := 0; i < len(raw); i += longtest.Pick(31, 1) {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1 << (i % 8)
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		b, err := CheckFile(File{Index: 2, Path: path, Size: int64(len(damaged))})
		require.NoError(t, err)
		if b.Records == 10 && len(b.Bad) == 0 { // the length that is told, and the names of chunks that are passed over
			continue
		}
		_, lost, err := Repair(t.Context(), dir, "", t.TempDir(), 1, 35, Known{Record: func(seq event.Sequence) (Record, bool) { return stored(seq), true }})
		require.NoError(t, err)
		require.Empty(t, lost)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, plain, after, "byte %d", i)
		rep, err := Check(dir, 1, 35)
		require.NoError(t, err)
		require.Empty(t, rep.Damage)
	}
}
