package faults

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"durablestream/event"
)

// resolve finds out of each operation whose outcome nobody knows whether it took
// place: the Log tells. One that did may have done so at any time until the end;
// one that did not says nothing, and is left out.
func resolve(ops []Op, at map[string]event.Sequence, log []Stored) []Op {
	claims := map[string]event.Sequence{} // by holder, which is another one for each claim
	for _, s := range log {
		if s.Guard.Holder != "" && claims[s.Guard.Holder] == 0 {
			claims[s.Guard.Holder] = s.Seq
		}
	}
	var out []Op
	for _, op := range ops {
		switch op.Kind {
		case Guarded, Look, Decide, Claim:
		default:
			continue
		}
		if op.Outcome == NoAnswer || op.Outcome == Refused {
			continue
		}
		if op.Outcome == Unknown {
			seq := at[op.IDs[0]]
			if op.Kind == Claim {
				seq = claims[op.IDs[0]]
			}
			if seq == 0 {
				continue
			}
			if op.Kind == Guarded {
				seq-- // the guard is before its event
			}
			op.Seqs, op.Outcome, op.Return = []event.Sequence{seq}, Done, math.MaxInt64
		}
		out = append(out, op)
	}
	return out
}

// linearizable checks the history of each guard, checkpoint and intent.
func (v *Verdict) linearizable(ops []Op) {
	keys := map[string][]porcupine.Operation{}
	for _, op := range ops {
		keys[op.Key] = append(keys[op.Key], porcupine.Operation{
			ClientId: op.Client, Input: op, Output: op, Call: int64(op.Call), Return: int64(op.Return),
		})
	}
	names := make([]string, 0, len(keys))
	for key := range keys {
		names = append(names, key)
	}
	slices.Sort(names)
	for _, key := range names {
		switch porcupine.CheckOperationsTimeout(model, keys[key], time.Minute) {
		case porcupine.Ok:
		case porcupine.Unknown:
			v.problem(&v.NotLinearizable, "%s: the check of %d operations did not end within a minute", key, len(keys[key]))
		default:
			v.problem(&v.NotLinearizable, "%s: no order explains its %d operations:\n%s", key, len(keys[key]), describe(keys[key]))
		}
	}
}

// describe lists a key's operations for a person, in the order of their calls.
func describe(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, o := range ops[:min(len(ops), 100)] {
		op := o.Input.(Op)
		fmt.Fprintf(&b, "  %v to %v client %d %s %v expecting %d: %s at %v, seen %s %d %s\n",
			op.Call, op.Return, op.Client, op.Kind, op.IDs, op.Expected, op.Outcome, op.Seqs, op.Seen, op.SeenSeq, op.Err)
	}
	return b.String()
}

// state is a guard's: its last Sequence, and who moved it.
type state struct {
	seq event.Sequence
	who string
}

// model is a register that is moved from an expected state only: a guard of a
// caller's own moves from any Sequence, a decision and a claim that does not run out
// from none.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, _ any) (bool, any) {
		st, op := s.(state), input.(Op)
		switch {
		case op.Kind == Look:
			return op.Seqs[0] == st.seq, st
		case op.Kind == Guarded && op.Outcome == Lost:
			return op.SeenSeq == st.seq && op.Expected != st.seq, st
		case op.Kind == Guarded:
			return op.Expected == st.seq && op.Seqs[0] > st.seq, state{op.Seqs[0], op.IDs[0]}
		case op.Outcome == Lost:
			return op.Seen == st.who, st
		}
		return st.who == "", state{op.Seqs[0], op.IDs[0]}
	},
}
