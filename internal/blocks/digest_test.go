package blocks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

func TestDigest(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	write(t, a, 35)
	write(t, b, 35)
	// The same records in blocks that are cut elsewhere, as a copy from a snapshot may have.
	one, two := []byte{}, []byte{}
	for seq := event.Sequence(1); seq <= 20; seq++ {
		if seq <= 13 {
			one = append(one, stored(seq).encode(1)...)
		} else {
			two = append(two, stored(seq).encode(2)...)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(b, "1.blk"), one, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(b, "2.blk"), two, 0o600))
	for _, q := range []DigestRange{Digests(1, 35), {1, 35, 10}, {5, 35, 7}, {30, 35, 100}} {
		x, err := DigestOf(a, q)
		require.NoError(t, err)
		y, err := DigestOf(b, q)
		require.NoError(t, err)
		require.Equal(t, x, y)
		require.Equal(t, event.Sequence(35), x.Last)
		require.Zero(t, x.Missing)
		require.Equal(t, q.To, q.Run(len(x.Sums)-1).To)
	}

	// One record is another one: only its run differs.
	q := DigestRange{1, 35, 10}
	was, err := DigestOf(a, q)
	require.NoError(t, err)
	var block []byte
	for seq := event.Sequence(11); seq <= 20; seq++ {
		r := stored(seq)
		if seq == 17 {
			r.Time++
		}
		block = append(block, r.encode(2)...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(a, "2.blk"), block, 0o600))
	now, err := DigestOf(a, q)
	require.NoError(t, err)
	require.Len(t, now.Sums, 4)
	for i := range now.Sums {
		require.Equal(t, i == 1, was.Sums[i] != now.Sums[i], "%d", i)
	}
	require.Equal(t, Range{From: 11, To: 20}, q.Run(1))

	// The end is missing, or one is.
	require.NoError(t, os.Remove(filepath.Join(a, "4.blk")))
	now, err = DigestOf(a, q)
	require.NoError(t, err)
	require.Equal(t, event.Sequence(30), now.Last)
	require.Zero(t, now.Missing)
	require.NoError(t, os.Remove(filepath.Join(a, "2.blk")))
	now, err = DigestOf(a, q)
	require.NoError(t, err)
	require.EqualValues(t, 10, now.Missing)
}

func TestDigestsAreBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []event.Sequence{1, 2, 1000, 1024, 1025, 10_000_000} {
		q := Digests(1, n)
		last := int((uint64(n)+q.Every-1)/q.Every) - 1
		require.Less(t, last, mostDigests)
		require.Equal(t, n, q.Run(last).To)
	}
}
