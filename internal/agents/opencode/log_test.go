package opencode_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/opencode"
	"durablestream/internal/agents/source"
	"durablestream/internal/brokertest"
	"durablestream/projection"

	"github.com/stretchr/testify/require"
)

// The log takes what a Translator gives out, by its own rules for requests,
// decisions and intents; twice gives the same; and the fold over what came back tells
// that nothing is left over.
func TestTheLogTakesIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h := brokertest.Start(t)
	c := h.NewClient(t, client.Config{})
	items := replay(opencode.New(opencode.Config{Instance: "here:1"}), capture(t, "session-events"))
	for range 2 {
		var plain []event.Event
		flush := func() {
			for batch := range slices.Chunk(plain, 500) {
				for _, e := range batch {
					if len(e.Payload) < 1<<20 {
						continue // in one batch, below
					}
					_, err := c.Append(ctx, e)
					require.NoError(t, err)
				}
				small := slices.DeleteFunc(slices.Clone(batch), func(e event.Event) bool { return len(e.Payload) >= 1<<20 })
				if len(small) > 0 {
					_, err := c.AppendBatch(ctx, small)
					require.NoError(t, err)
				}
			}
			plain = nil
		}
		for _, i := range items {
			if i.Kind == source.Plain {
				plain = append(plain, i.Event)
				continue
			}
			flush()
			_, err := c.Append(ctx, i.Event)
			require.NoError(t, err, "%s %s", i.Kind, i.Event.Type)
		}
		flush()
	}

	var fold opencode.Fold
	n := 0
	for r, err := range c.Query(ctx, event.Filter{}) {
		require.NoError(t, err)
		fold.Apply(r)
		n++
	}
	require.Equal(t, len(items), n, "twice is once")
	require.Empty(t, fold.Recovery().Sessions)
	open, err := c.Checkpoints().List(ctx, true)
	require.NoError(t, err)
	require.Empty(t, open)

	// An answer that comes second is told so, and is kept in its other form.
	for _, i := range items {
		if i.Event.Type != event.CheckpointApproved {
			continue
		}
		late := i.Event
		late.ID += ".late"
		late.Actor = "somebody"
		_, err := c.Append(ctx, late)
		var decided *client.DecidedError
		require.True(t, errors.As(err, &decided), "%v", err)
		require.Equal(t, projection.Approved, decided.Checkpoint.Status)
		_, err = c.Append(ctx, *i.Else)
		require.NoError(t, err)
		return
	}
	t.Fatal("nothing was approved")
}
