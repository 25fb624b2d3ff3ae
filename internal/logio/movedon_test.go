package logio_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/internal/logio"
)

// A guard was moved, the answer was lost, and before it is tried again somebody moves
// it on: the last one is not ours, and ours is stored all the same.
func TestGuardMovedOnAfterALostAnswer(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string][]event.Event{"alone": nil, "with an event": numbered(1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			p := h.Proxy(t)
			c := open(t, p.Connect(t), logio.Config{})
			marker := commit
			if behind == nil {
				marker = "HPUB guards."
			}
			lost := p.LoseAnswers(marker)
			type answer struct {
				seq event.Sequence
				err error
			}
			done := make(chan answer, 1)
			go func() {
				seq, err := c.AppendGuarded(within(t, 20*time.Second), "g", 0, behind...)
				done <- answer{seq, err}
			}()
			wait(t, lost.Met())
			reaches(t, h, 1+len(behind))
			_, _, err := h.Client.AppendGuarded(t.Context(), client.Guard{Name: "g", Expected: 1})
			require.NoError(t, err)
			p.Cut()
			got := wait(t, done)
			require.NoError(t, got.err)
			require.EqualValues(t, 1, got.seq)
			require.EqualValues(t, 2+len(behind), position(t, h.Client), "nothing was stored again")
		})
	}
}
