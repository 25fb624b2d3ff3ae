package mirror

import (
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Salvaged is what a mirror says of Sequences that its Log has lost.
type Salvaged struct {
	// Messages are what stood there: events, and the guards of decisions and intents. Where
	// there was no event and nobody knows what there was, it is a void.
	Messages map[event.Sequence]*nats.Msg
	// Last is the Sequence of the last line that could be read. Nothing is known of what
	// follows it.
	Last event.Sequence
	// Problem is why it could not be read to its end: *DamageError, *TornError,
	// *OriginalError; nil: it was.
	Problem error
}

// Salvage reads the files in dir for Sequences that a Log has lost. Its error means that
// they cannot be read at all.
func Salvage(dir string, lost []wire.Range) (Salvaged, error) {
	s := Salvaged{Messages: map[event.Sequence]*nats.Msg{}}
	for l, err := range Lines(dir) {
		var damage *DamageError
		var torn *TornError
		var original *OriginalError
		if errors.As(err, &damage) || errors.As(err, &torn) || errors.As(err, &original) {
			s.Problem = err
			return s, nil
		}
		if err != nil {
			return s, err
		}
		after := s.Last
		if l.first && l.Recorded.Seq > 1 {
			after = l.Recorded.Seq - 1 // what came before is in older files
			if _, ok := guardOf(l); ok {
				after--
			}
		}
		for _, r := range lost {
			if !r.Meets(after, l.Recorded.Seq) {
				continue
			}
			for seq := max(after+1, r.From); seq <= l.Recorded.Seq && (r.To == 0 || seq <= r.To); seq++ {
				s.Messages[seq] = messageAt(cloned(l), seq)
			}
		}
		s.Last = l.Recorded.Seq
	}
	return s, nil
}

func cloned(l Line) Line {
	l.Body = slices.Clone(l.Body)
	return l
}
