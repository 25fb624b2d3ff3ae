package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// Stored is one message of the Log, as it is when the run is over.
type Stored struct {
	Seq     event.Sequence
	Subject string
	Event   event.Recorded // zero for guards
	Guard   wire.GuardBody // of guards
}

// ReadLog reads the whole Log, and demands that no position is missing.
func ReadLog(ctx context.Context, c *client.Client) ([]Stored, error) {
	end, err := c.Position(ctx)
	if err != nil || end == 0 {
		return nil, err
	}
	var log []Stored
	for m, err := range c.Feed(ctx, client.FeedConfig{Until: end}) {
		if err != nil {
			return nil, err
		}
		if want := event.Sequence(len(log) + 1); m.Seq != want {
			return nil, fmt.Errorf("position %d is missing: %d follows", want, m.Seq)
		}
		s := Stored{Seq: m.Seq, Subject: m.Subject}
		if wire.IsGuard(m.Subject) {
			err = json.Unmarshal(m.Data, &s.Guard)
		} else {
			s.Event, err = wire.Decode(m.Subject, m.Data, m.Seq)
		}
		if err != nil {
			return nil, fmt.Errorf("position %d, %s: %w", m.Seq, m.Subject, err)
		}
		log = append(log, s)
	}
	if len(log) < int(end) {
		return nil, fmt.Errorf("the log ends at %d, and its position is %d", len(log), end)
	}
	return log, nil
}

// Verdict is what the checkers found.
type Verdict struct {
	Operations, Acknowledged, Unknown, Refused int
	Lost                                       int // acknowledged, and not where the acknowledgement says
	Twice                                      int // ids that are stored more than once
	Reordered                                  int // acknowledged before another one began, and stored after it
	Promised                                   int // refused as not stored, and stored
	Torn                                       int // batches of which a part is stored
	NotLinearizable                            int // keys whose history no order of its operations explains
	Subscribers                                int // that saw other events than the Log holds
	LongestWait                                time.Duration
	Outcomes                                   map[Kind]map[Outcome]int
	Problems                                   []string
}

// OK reports that nothing was found.
func (v *Verdict) OK() bool { return len(v.Problems) == 0 }

func (v *Verdict) problem(count *int, format string, args ...any) {
	*count++
	if len(v.Problems) < 50 {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// Check compares what the clients were told with what the Log holds.
func Check(ops []Op, log []Stored) *Verdict {
	v := &Verdict{Operations: len(ops), Outcomes: map[Kind]map[Outcome]int{}}
	at := v.ids(log)
	for _, op := range ops {
		if v.Outcomes[op.Kind] == nil {
			v.Outcomes[op.Kind] = map[Outcome]int{}
		}
		v.Outcomes[op.Kind][op.Outcome]++
		v.outcome(op, at)
	}
	v.realTime(ops)
	v.linearizable(resolve(ops, at, log))
	v.queries(ops, log, at)
	return v
}

// ids finds where each event is, and the ones that are stored twice.
func (v *Verdict) ids(log []Stored) map[string]event.Sequence {
	at := map[string]event.Sequence{}
	payloads := map[string]event.Sequence{}
	for _, s := range log {
		if s.Event.ID == "" {
			continue
		}
		if was := at[s.Event.ID]; was != 0 {
			v.problem(&v.Twice, "id %s is stored at %d and at %d", s.Event.ID, was, s.Seq)
			continue
		}
		at[s.Event.ID] = s.Seq
		// What a client says twice is one event, whatever its id: the payload tells,
		// which each client numbers.
		if s.Event.Type == "fault.event" {
			key := s.Event.Actor + string(s.Event.Payload)
			if was := payloads[key]; was != 0 {
				v.problem(&v.Twice, "event %s of %s is stored at %d and at %d", s.Event.Payload, s.Event.Actor, was, s.Seq)
			}
			payloads[key] = s.Seq
		}
	}
	return at
}

// outcome holds one operation against the Log.
func (v *Verdict) outcome(op Op, at map[string]event.Sequence) {
	writes := op.Kind == Append || op.Kind == Batch || op.Kind == Guarded || op.Kind == Decide
	if !writes {
		return
	}
	stored := 0
	for _, id := range op.IDs {
		if at[id] != 0 {
			stored++
		}
	}
	switch op.Outcome {
	case Done:
		v.Acknowledged++
		v.LongestWait = max(v.LongestWait, op.Return-op.Call)
		for i, id := range op.IDs {
			seq := op.Seqs[min(i, len(op.Seqs)-1)]
			if op.Kind == Guarded {
				seq++ // the event follows its guard
			}
			if at[id] != seq {
				v.problem(&v.Lost, "%s %s of client %d was acknowledged at %d, %v after the beginning, and is at %d", op.Kind, id, op.Client, seq, op.Return, at[id])
			}
		}
	case Unknown:
		v.Unknown++
	case Refused, Lost:
		v.Refused++
		if stored > 0 {
			v.problem(&v.Promised, "%s %s of client %d is stored at %d, and its caller was told: %s", op.Kind, op.IDs[0], op.Client, at[op.IDs[0]], op.Err)
		}
	}
	if stored > 0 && stored < len(op.IDs) {
		v.problem(&v.Torn, "%d of %d events of a batch of client %d are stored", stored, len(op.IDs), op.Client)
	}
}

// realTime demands that what was acknowledged before another operation began is
// before it in the Log.
func (v *Verdict) realTime(ops []Op) {
	var done []Op
	for _, op := range ops {
		if op.Outcome == Done && len(op.Seqs) > 0 && op.Kind != Look {
			done = append(done, op)
		}
	}
	byReturn := slices.Clone(done)
	sort.Slice(byReturn, func(i, j int) bool { return byReturn[i].Return < byReturn[j].Return })
	sort.Slice(done, func(i, j int) bool { return done[i].Call < done[j].Call })
	var newest Op // of those that had returned
	i := 0
	for _, op := range done {
		for ; i < len(byReturn) && byReturn[i].Return < op.Call; i++ {
			if last := byReturn[i]; len(newest.Seqs) == 0 || last.Seqs[len(last.Seqs)-1] > newest.Seqs[len(newest.Seqs)-1] {
				newest = last
			}
		}
		if len(newest.Seqs) > 0 && op.Seqs[0] < newest.Seqs[len(newest.Seqs)-1] {
			v.problem(&v.Reordered, "%s %v of client %d is at %d, and %v, which was acknowledged before it began, at %d",
				op.Kind, op.IDs, op.Client, op.Seqs[0], newest.IDs, newest.Seqs[len(newest.Seqs)-1])
		}
	}
}

// queries demands that a linearizable query brought a beginning of its stream, with
// all that had been acknowledged before it began, and nothing that began after it.
func (v *Verdict) queries(ops []Op, log []Stored, at map[string]event.Sequence) {
	streams := map[string][]string{} // ids in order
	for _, s := range log {
		if s.Event.ID != "" {
			streams[s.Event.StreamID] = append(streams[s.Event.StreamID], s.Event.ID)
		}
	}
	type fact struct {
		when time.Duration
		n    int // events of the stream
	}
	place := map[string]int{}
	for _, ids := range streams {
		for i, id := range ids {
			place[id] = i + 1
		}
	}
	acked := map[string][]fact{}
	for _, op := range ops {
		if op.Kind == Append && op.Outcome == Done && at[op.IDs[0]] != 0 {
			acked[op.Key] = append(acked[op.Key], fact{op.Return, place[op.IDs[0]]})
		}
	}
	seen := map[string][]fact{}
	for _, op := range ops {
		if op.Kind != Query || op.Outcome != Done {
			continue
		}
		all := streams[op.Key]
		if len(op.Got) > len(all) || !slices.Equal(op.Got, all[:len(op.Got)]) {
			v.problem(&v.NotLinearizable, "a query of %s by client %d brought %d events that are not the first of its %d", op.Key, op.Client, len(op.Got), len(all))
			continue
		}
		for _, f := range append(acked[op.Key], seen[op.Key]...) {
			if f.when < op.Call && f.n > len(op.Got) {
				v.problem(&v.NotLinearizable, "a query of %s by client %d brought %d events, when %d had been acknowledged or read before it began", op.Key, op.Client, len(op.Got), f.n)
				break
			}
		}
		seen[op.Key] = append(seen[op.Key], fact{op.Return, len(op.Got)})
	}
}
