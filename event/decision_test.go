package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"durablestream/event"
)

// The catalogue says of each type whether it decides, or ends an intent; the lists agree.
func TestDecisionsAndEnds(t *testing.T) {
	t.Parallel()
	var decisions, ends []string
	for _, k := range event.Catalogue() {
		switch k.Payload.(type) {
		case event.Approved, event.Rejected, event.Expired, event.Cancelled:
			decisions = append(decisions, k.Type)
		case event.IntentEnd:
			ends = append(ends, k.Type)
		}
		require.Equal(t, len(decisions) > 0 && decisions[len(decisions)-1] == k.Type, event.IsDecision(k.Type), k.Type)
		require.Equal(t, len(ends) > 0 && ends[len(ends)-1] == k.Type, event.EndsIntent(k.Type), k.Type)
	}
	require.Equal(t, decisions, event.Decisions())
	require.Equal(t, ends, event.IntentEnds())
	event.Decisions()[0], event.IntentEnds()[0] = "x.y", "x.y" // they are the caller's own
	require.Equal(t, decisions, event.Decisions())
	require.Equal(t, ends, event.IntentEnds())
	require.False(t, event.IsDecision(""))
}
