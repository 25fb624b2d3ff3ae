package agents

import (
	"context"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/source"
)

// Recover reads the unfinished work of a kind of agent from the Log; with all, also that of
// sessions that went on since.
func Recover[T any](ctx context.Context, c *client.Client, fold source.Recovery[T], runs Presence, all bool) (T, error) {
	for r, err := range c.Query(ctx, event.Filter{Types: fold.Types(), Linearizable: true}) {
		if err != nil {
			var none T
			return none, err
		}
		fold.Apply(r)
	}
	lives := map[string]source.Life{}
	life := func(instance string) source.Life {
		if _, ok := lives[instance]; !ok {
			lives[instance] = runs.Of(instance)
		}
		return lives[instance]
	}
	return fold.Left(time.Now(), life, all), nil
}
