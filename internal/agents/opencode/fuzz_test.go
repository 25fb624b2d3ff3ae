package opencode_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"

	"github.com/stretchr/testify/require"
)

// FuzzTake feeds lines of any kind: nothing panics, all that comes out is valid, and
// each line leaves a trace.
func FuzzTake(f *testing.F) {
	seen := map[string]bool{}
	for _, name := range []string{"session-events", "crash-before-restart"} {
		var some []byte
		for _, c := range capture(f, name) {
			if typ := c.bus().Type; len(c.Event) < 2000 && !seen[typ] {
				seen[typ] = true
				f.Add([]byte(c.Event))
			}
			if len(c.Event) < 700 && len(some) < 8000 {
				some = append(append(some, c.Event...), '\n')
			}
		}
		f.Add(some)
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		tr := opencode.New(opencode.Config{Limit: 5000, Instance: "i"})
		now := time.UnixMilli(1795355693000)
		var all []source.Item
		for line := range bytes.SplitSeq(lines, []byte("\n")) {
			before := tr.Stats()
			items := tr.Take(opencode.Parse(line), now)
			after := tr.Stats()
			all = append(all, items...)
			quiet := after.Repeated + after.Joined + after.Covered + after.Late - before.Repeated - before.Joined - before.Covered - before.Late
			require.True(t, len(items) > 0 || quiet > 0, "no trace of %q", line)
			now = now.Add(300 * time.Millisecond)
		}
		all = append(all, tr.Flush(now)...)
		var fold opencode.Fold
		for _, i := range all {
			require.NoError(t, i.Event.Validate())
			require.LessOrEqual(t, len(i.Event.Payload), 5000)
			if i.Else != nil {
				require.NoError(t, i.Else.Validate())
			}
			_ = i.Kind.String()
		}
		for _, r := range record(all) {
			fold.Apply(r)
		}
		_, err := json.Marshal(fold.Recovery())
		require.NoError(t, err)
		next := opencode.New(opencode.Config{Instance: "i"})
		next.Seed(&fold)
		next.Flush(now)
	})
}

func BenchmarkTake(b *testing.B) {
	lines := capture(b, "session-events")
	var size int64
	for _, c := range lines {
		size += int64(len(c.Event))
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		tr := opencode.New(opencode.Config{})
		for _, c := range lines {
			tr.Take(c.bus(), c.now())
		}
	}
	b.ReportMetric(float64(len(lines)*b.N)/b.Elapsed().Seconds(), "events/s")
}
