// Package measure measures the log beside what its users would pick instead.
//
// A figure alone says nothing on a machine where other things run. So every workload
// here is run in short turns, ours and its neighbours one after the other, in one
// process and on one disk: what disturbs one disturbs the others, and their ratio
// stays. The Go benchmarks in bench/ are the whole measurement (`make bench`,
// docs/performance.md); Short is what `dstream bench` runs.
package measure

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Side is one of those that are measured beside each other.
type Side struct {
	Name string
	Op   func(context.Context) error
	Each int // how many events one Op stores or reads. Default 1
}

// Turns says how sides take turns. The zero value of no field is of use.
type Turns struct {
	Rounds   int           // how often each side has its turn
	For      time.Duration // of one turn; an Op that has begun is finished
	InFlight int           // how many call Op at once
}

// Measured is what became of one side.
type Measured struct {
	Name  string
	Times []time.Duration // of every Op
	Count int             // of events
	Took  time.Duration   // all its turns together
}

// P is the quantile q of the times, 0 without any.
func (m Measured) P(q float64) time.Duration { return Quantile(m.Times, q) }

// Rate is events a second.
func (m Measured) Rate() float64 {
	if m.Took == 0 {
		return 0
	}
	return float64(m.Count) / m.Took.Seconds()
}

// Add takes in another measurement of the same side.
func (m *Measured) Add(o Measured) {
	m.Name = o.Name
	m.Times = append(m.Times, o.Times...)
	m.Count += o.Count
	m.Took += o.Took
}

// Quantile is the value below which the part q of times lies; 0 where there are none.
func Quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Alternate gives each side its turns, and what came of it in the order of sides. Who
// begins changes from round to round, so that nobody always comes after the same one;
// one turn of each before the first round is not counted.
func Alternate(ctx context.Context, t Turns, sides ...Side) ([]Measured, error) {
	out := make([]Measured, len(sides))
	for round := -1; round < t.Rounds; round++ {
		for k := range sides {
			i := (k + max(round, 0)) % len(sides)
			m, err := Turn(ctx, t.For, t.InFlight, sides[i])
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				out[i].Add(m)
			}
		}
	}
	return out, nil
}

// Turn calls a side's Op from so many goroutines until the time is over, or ctx.
func Turn(ctx context.Context, d time.Duration, inFlight int, s Side) (Measured, error) {
	times := make([][]time.Duration, inFlight)
	errs := make([]error, inFlight)
	var all sync.WaitGroup
	began := time.Now()
	for g := range inFlight {
		all.Go(func() {
			for first := true; first || time.Since(began) < d; first = false {
				start := time.Now()
				if errs[g] = s.Op(ctx); errs[g] == nil {
					errs[g] = ctx.Err() // not every Op looks at it
				}
				if errs[g] != nil {
					return
				}
				times[g] = append(times[g], time.Since(start))
			}
		})
	}
	all.Wait()
	m := Measured{Name: s.Name, Times: slices.Concat(times...), Took: time.Since(began)}
	m.Count = len(m.Times) * max(s.Each, 1)
	for _, err := range errs {
		if err != nil {
			return m, fmt.Errorf("measure: %s: %w", s.Name, err)
		}
	}
	return m, nil
}
