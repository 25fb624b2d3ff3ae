package logio

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
	"durablestream/internal/wire"
)

func TestDenseIsForFoldsThatEndAndFindMuch(t *testing.T) {
	t.Parallel()
	subjects := []string{wire.GuardFilter(event.GuardRequest), wire.GuardFilter(event.GuardCheckpoint)}
	for name, c := range map[string]struct {
		cfg     FeedConfig
		pending uint64
		want    bool
	}{
		"much":           {FeedConfig{Subjects: subjects, Until: 10_000, Scattered: true}, 4000, true},
		"little":         {FeedConfig{Subjects: subjects, Until: 1_000_000, Scattered: true}, 4000, false},
		"few":            {FeedConfig{Subjects: subjects, Until: 1000, Scattered: true}, 400, false},
		"one subject":    {FeedConfig{Subjects: subjects, Until: 10_000}, 4000, false},
		"without end":    {FeedConfig{Subjects: subjects, Scattered: true}, 4000, false},
		"everything":     {FeedConfig{Until: 10_000, Scattered: true}, 4000, false},
		"the rest of it": {FeedConfig{Subjects: subjects, Until: 1_000_000, After: 990_000, Scattered: true}, 4000, true},
	} {
		f := &feed{cfg: c.cfg, at: c.cfg.After}
		require.Equal(t, c.want, f.dense(c.pending), name)
	}
	require.True(t, wire.InSubjects(subjects, wire.GuardSubject(event.GuardRequest, "a.b")))
	require.False(t, wire.InSubjects(subjects, wire.GuardSubject(event.GuardIntent, "a")))
	require.False(t, wire.InSubjects(subjects, wire.EventSubject("a.b", "s")))
}
