package event

import "fmt"

// Range is a run of Sequences, both ends included.
type Range struct {
	From Sequence `json:"from"`
	To   Sequence `json:"to"` // 0: nobody knows
}

func (r Range) String() string {
	switch {
	case r.To == 0:
		return fmt.Sprintf("%d and what followed", r.From)
	case r.From == r.To:
		return r.From.String()
	}
	return fmt.Sprintf("%d to %d", r.From, r.To)
}

// Count is how many Sequences a range has; 1 where its end is not known.
func (r Range) Count() uint64 {
	if r.To < r.From {
		return 1
	}
	return uint64(r.To-r.From) + 1
}

// Meets reports that a range has a Sequence in (after, until]; until 0 is for ever.
func (r Range) Meets(after, until Sequence) bool {
	return (r.To == 0 || r.To > after) && (until == 0 || r.From <= until)
}
