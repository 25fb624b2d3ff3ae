package agents

import (
	"fmt"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents/source"
)

// The limits of one batch. A batch of any size costs some 7 ms, and an append alone 1 or 2.
const (
	batchLeast = 6
	batchMost  = 500
	batchBytes = 4 << 20
)

// write is the writer.
func (in *Intake) write() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		in.until(in.work, func() bool { return len(in.queue) > 0 || in.closed })
		works := in.queue
		in.queue = nil
		if len(works) == 0 {
			return // closed, or out of time
		}
		in.mu.Unlock()
		err := in.writeAll(works)
		in.mu.Lock()
		if err != nil {
			// Without an answer: the caller sends it all again, to the next process.
			in.err, in.closed = err, true
			in.cfg.Fail(err)
		}
		in.tell()
		if err != nil {
			return
		}
	}
}

// run is a row of events that need no guard, with the callers that wait for them.
type run struct {
	events []event.Event
	of     []*taken
	bytes  int
	done   []*taken
	then   []func()
}

// writeAll writes in order, in as few batches as is good.
func (in *Intake) writeAll(works []written) error {
	r := &run{}
	for _, w := range works {
		for _, i := range w.items {
			if i.Kind == source.Plain {
				if i.Stored {
					in.wrote(size(i.Event))
					continue
				}
				r.events, r.of, r.bytes = append(r.events, i.Event), append(r.of, w.of), r.bytes+size(i.Event)
				if len(r.events) < batchMost && r.bytes < batchBytes {
					continue
				}
			}
			if err := in.flush(r); err != nil {
				return err
			}
			if i.Kind != source.Plain {
				err := in.guarded(i)
				if Fatal(err) {
					return err
				}
				in.blame(w.of, err)
				in.wrote(size(i.Event))
			}
		}
		r.done = append(r.done, w.done...)
		if w.then != nil {
			r.then = append(r.then, w.then)
		}
		if len(r.events) == 0 {
			in.answer(r)
		}
	}
	return in.flush(r)
}

// flush writes a run and answers the callers that waited for it.
func (in *Intake) flush(r *run) error {
	err := errOneByOne
	if len(r.events) >= batchLeast {
		err = in.patiently(func() error {
			_, err := in.cfg.Client.AppendBatch(in.work, r.events)
			return err
		})
	}
	// A batch is refused as a whole, be it for one event of it that is there already.
	if err != nil && !Fatal(err) {
		for i, e := range r.events {
			if err = in.append(e); Fatal(err) {
				return err
			}
			in.blame(r.of[i], err)
		}
	} else if err != nil {
		return err
	}
	in.wrote(r.bytes)
	r.events, r.of, r.bytes = nil, nil, 0
	in.answer(r)
	return nil
}

var errOneByOne = fmt.Errorf("%w: too few for a batch", client.ErrDuplicateID)

func (in *Intake) answer(r *run) {
	for _, t := range r.done {
		if t.err != nil {
			t.finish(0, t.err)
		} else {
			t.finish(t.stored, nil)
		}
	}
	in.mu.Lock()
	for _, then := range r.then {
		then()
	}
	in.tell()
	in.mu.Unlock()
	r.done, r.then = nil, nil
}

func (in *Intake) wrote(bytes int) {
	in.mu.Lock()
	in.bytes -= bytes
	in.tell()
	in.mu.Unlock()
}

// blame keeps the first error of what follows from an event, for its answer.
func (in *Intake) blame(t *taken, err error) {
	if err == nil {
		return
	}
	in.cfg.Logger.Error("an event of "+in.agent.Title+" could not be stored", "err", err)
	if t != nil && t.err == nil {
		t.stored--
		t.err = err
	}
}
