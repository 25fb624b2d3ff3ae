package measure

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"durablestream/event"
)

// Report is what Short measured. Times are in milliseconds.
type Report struct {
	Fsync    Times  `json:"write_fsync_ms"` // one event's line, written to a plain file and synced
	Append   Times  `json:"append_ms"`
	Bare     Times  `json:"bare_publish_ms"` // the engine without our client
	Heard    Times  `json:"heard_ms"`        // from the beginning of an append to its subscriber
	InFlight []Rate `json:"in_flight"`       // appends a second through one client, first with one at a time
	Batch    Rate   `json:"batch"`           // events a second in batches
	CatchUp  Rate   `json:"catch_up"`        // events a second, read from the first on
	Start    Times  `json:"start_ms"`        // of a host, with the log that was made here
}

// Times are a p50 and a p99.
type Times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Rate is events a second: of N in flight, in a batch, or read.
type Rate struct {
	N         int     `json:"n"`
	PerSecond float64 `json:"per_second"`
}

func times(m Measured) Times { return Times{ms(m.P(0.5)), ms(m.P(0.99))} }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Short measures a host in dir, an empty directory on the disk that is meant, for about
// length. doing hears what is measured at the moment. What it has stored stays in dir, the
// host does not, whatever comes in between.
func Short(ctx context.Context, dir string, length time.Duration, doing func(what string)) (r Report, err error) {
	doing("one append at a time")
	h, err := Start(ctx, filepath.Join(dir, "log"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, h.Stop(ctx)) }()
	f, err := NewFile(filepath.Join(dir, "plain"))
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }() // what it holds is of no use
	ours := Side{Name: "an append", Op: Appender(h.Client)}
	one, err := Alternate(ctx, Turns{Rounds: 60, For: length / 600, InFlight: 1},
		ours, Side{Name: "a bare publish", Op: h.Bare.Append}, Side{Name: "write + fsync", Op: f.Append})
	if err != nil {
		return r, err
	}
	r.Append, r.Bare, r.Fsync = times(one[0]), times(one[1]), times(one[2])
	r.InFlight = append(r.InFlight, Rate{1, one[0].Rate()})

	doing("a subscriber")
	heard, err := live(ctx, h, length/20)
	if err != nil {
		return r, err
	}
	r.Heard = times(heard)

	for _, n := range []int{8, 64, 512} {
		doing(fmt.Sprintf("%d appends in flight", n))
		m, err := Turn(ctx, length/8, n, ours)
		if err != nil {
			return r, err
		}
		r.InFlight = append(r.InFlight, Rate{n, m.Rate()})
	}

	doing("batches")
	batch, err := Turn(ctx, length/8, 1, Side{"a batch", BatchAppender(h.Client, event.MaxBatchLen), event.MaxBatchLen})
	if err != nil {
		return r, err
	}
	r.Batch = Rate{event.MaxBatchLen, batch.Rate()}

	doing("reading")
	n, began := 0, time.Now()
	for _, err := range h.Client.Query(ctx, event.Filter{}) {
		if err != nil {
			return r, err
		}
		n++
	}
	r.CatchUp = Rate{n, float64(n) / time.Since(began).Seconds()}

	doing("starting")
	var starts Measured
	for range 5 {
		if err := h.Stop(ctx); err != nil {
			return r, err
		}
		began := time.Now()
		if h, err = Start(ctx, filepath.Join(dir, "log")); err != nil {
			return r, err
		}
		starts.Times = append(starts.Times, time.Since(began))
	}
	r.Start = times(starts)
	return r, nil
}

// live measures from the beginning of an append to its subscriber, in this process.
func live(ctx context.Context, h *Host, d time.Duration) (Measured, error) {
	at, err := h.Client.Position(ctx)
	if err != nil {
		return Measured{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived := make(chan error)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		for _, err := range h.Client.Subscribe(ctx, event.Filter{After: at}) {
			select {
			case arrived <- err:
			case <-ctx.Done():
				return
			}
		}
	}()
	return Turn(ctx, d, 1, Side{Name: "a subscriber", Op: func(ctx context.Context) error {
		if _, err := h.Client.Append(ctx, Event()); err != nil {
			return err
		}
		select {
		case err := <-arrived:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
}
