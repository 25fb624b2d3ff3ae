package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"durablestream/event"
	"durablestream/internal/engine"
)

// crowd is more subscribers than the engine admits by default.
const crowd = engine.MostConsumers + 100

// manySubscribers lets a crowd follow the Log, and demands that each hears of an event that
// is appended then. Others append, and read, meanwhile.
func manySubscribers(ctx context.Context, s *System, r *rand.Rand) (func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	c, leave, err := s.Client(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	stream := fmt.Sprintf("crowd-%d", r.Int64())
	var running sync.WaitGroup
	end := func() error { cancel(); running.Wait(); leave(); return nil }
	heard := make(chan error, crowd)
	for range crowd {
		running.Go(func() {
			for _, err := range c.Subscribe(ctx, event.Filter{StreamID: stream}) {
				heard <- err
				if err == nil {
					<-ctx.Done() // it stays, as others come
				}
				return
			}
			heard <- errors.New("its subscription ended")
		})
	}
	begun := time.Now()
	_, err = c.Append(ctx, event.Event{Type: "fault.crowd", StreamID: stream, Actor: "agent/crowd", Payload: []byte(`{}`)})
	for n := 0; n < crowd && err == nil; n++ {
		if err = <-heard; err != nil {
			err = fmt.Errorf("faults: of %d subscribers one that came after %d others heard nothing within %v: %w", crowd, n, time.Since(begun), err)
		}
	}
	return end, err
}
