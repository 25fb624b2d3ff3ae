package mirror

import (
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Salvaged holds a mirror's messages for Sequences that its Log has lost.
type Salvaged struct {
	// Messages are the lost messages: events, and the guards of decisions and intents.
	// For a Sequence without an event whose message is unknown, it is a void.
	Messages map[event.Sequence]*nats.Msg
	// Unproven are the Messages whose line no chain proves, since the line before it is
	// missing.
	Unproven map[event.Sequence]bool
	// Last is the Sequence of the last readable line. The files show nothing about later
	// Sequences.
	Last event.Sequence
	// Problem is the reason that some lines could not be read: *DamageError, *TornError,
	// *OriginalError; nil if all were read.
	Problem error
}

// Salvage reads the files in dir for Sequences that a Log has lost. Its error means that
// the files cannot be read at all. Lines after a damaged line count, too:
// Salvaged.Problem names the first damaged line.
func Salvage(dir string, lost []wire.Range) (Salvaged, error) {
	s := Salvaged{Messages: map[event.Sequence]*nats.Msg{}, Unproven: map[event.Sequence]bool{}}
	last := event.Sequence(0)
	for l, err := range Remains(dir) {
		var damage *DamageError
		var torn *TornError
		var original *OriginalError
		switch {
		case err == nil:
		case errors.As(err, &damage), errors.As(err, &torn), errors.As(err, &original):
			if s.Problem == nil {
				s.Problem = err
			}
			continue
		default:
			return s, err
		}
		after := last
		if l.First && l.Recorded.Seq > 1 || l.Broken {
			after = l.Recorded.Seq - 1 // nobody knows what came before
			if _, ok := guardOf(l.Line); ok && after > last {
				after--
			}
		}
		for _, r := range lost {
			if !r.Meets(after, l.Recorded.Seq) {
				continue
			}
			for seq := max(after+1, r.From); seq <= l.Recorded.Seq && (r.To == 0 || seq <= r.To); seq++ {
				s.Messages[seq] = messageAt(cloned(l.Line), seq)
				if !l.Proven {
					s.Unproven[seq] = true
				}
			}
		}
		last = l.Recorded.Seq
		s.Last = last
	}
	return s, nil
}

func cloned(l Line) Line {
	l.Body = slices.Clone(l.Body)
	return l
}
