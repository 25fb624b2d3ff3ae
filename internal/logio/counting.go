package logio

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wire"
)

// The engine leaves out what it cannot read, and says nothing. A feed of everything
// sees that in the Sequences, each of which must follow the one before. A feed with a
// filter counts.
//
// When a consumer is made, the engine says how many messages it will bring of those
// that are stored, from its index, which does not depend on whether they can be
// read. So the first that many must all come, and each of them was stored before: one
// that is left out shows in that there is nothing more although more is due, or in a
// message among them that was stored later. Then the feed looks for the gap, by
// reading everything: that alone decides.
//
// What is left out before a reader stops of its own accord (a limit) does not show in
// that, and neither does what the engine has cut off its files, with its index. So a
// bounded reader that has a filter asks the host, when it has read, to look at what
// has changed in its files; see verify. Elsewhere the hosts' marks tell, which are there
// after seconds.
type counting struct {
	from event.Sequence // the position before the present consumer's first message
	node string         // whose copy of the Log it reads; "" on a single host
	read []string       // nodes whose copies were read, where gaps do not show
	due  uint64         // messages that were stored when it was made
	took uint64         // messages behind from that it has brought
	made time.Time      // when that was at the latest, by the server's clock

	patience time.Duration // with a consumer that has more and brings nothing
}

// serves begins to count what a new consumer brings.
func (f *feed) serves(cons jetstream.Consumer, pending uint64) {
	info := cons.CachedInfo()
	f.from, f.due, f.took, f.made, f.node, f.past = f.at, pending, 0, info.TimeStamp, "", false
	if f.log.clustered && info.Cluster != nil {
		f.node = info.Cluster.Leader
	}
	if len(f.cfg.Subjects) > 0 && !slices.Contains(f.read, f.node) {
		f.read = append(slices.Clone(f.read), f.node)
	}
}

// off reports that message n of the consumer, of which the server says that there are
// pending more, shows that one before it was left out.
func (f *feed) off(n, pending uint64, m jetstream.Msg) bool {
	if n+pending < f.due {
		return true
	}
	if n > f.due || f.made.IsZero() || len(f.cfg.Subjects) == 0 || f.log.clustered { // where each node has its clock
		return false
	}
	meta, err := m.Metadata()
	return err == nil && meta.Timestamp.After(f.made)
}

// owed reports that a bounded feed that has reached its end still waits for messages
// that were due: no more than are on their way already.
func (f *feed) owed(n uint64) bool {
	return len(f.cfg.Subjects) > 0 && n < f.due && f.due-n <= feedMessages
}

// suspect looks for a gap where the present consumer has read. Where there is none,
// the feed goes on with another consumer, and is less suspicious.
func (f *feed) suspect(ctx context.Context) error {
	if f.log.clustered {
		return f.recount(ctx, f.at)
	}
	if d := f.log.locate(ctx, f.from, f.cfg.Until); d != nil {
		d.Node = f.node
		return d
	}
	f.patience = min(2*f.patience, 30*time.Second)
	return errStalled
}

// leftOut is what a consumer has left out that has looked up to at and has nothing more,
// although more was due.
func (f *feed) leftOut(ctx context.Context, at event.Sequence) error {
	switch {
	case len(f.cfg.Subjects) > 0: // anywhere where it has read
		return f.recount(ctx, at)
	case at > f.at:
		return &event.DamageError{From: f.at + 1, To: at, Node: f.node}
	}
	return nil // it has not looked yet
}

// recount reads all that a cluster's consumer has gone through, up to the position to, with
// other consumers, and counts what it should have brought. Its replica may have been set
// back to a snapshot meanwhile, to store the rest again: then the consumer had less than it
// was to bring, and has left out nothing.
func (f *feed) recount(ctx context.Context, to event.Sequence) error {
	if to <= f.from {
		return errStalled
	}
	n := uint64(0)
	for m, err := range f.log.Feed(ctx, FeedConfig{After: f.from, Until: to, HeadersOnly: true}) {
		if err != nil {
			return err
		}
		if wire.InSubjects(f.cfg.Subjects, m.Subject) {
			n++
		}
	}
	if n > f.took {
		return &event.DamageError{From: f.from + 1, To: to, Node: f.node}
	}
	return errStalled
}

var errStalled = errors.New("the server has more messages, and brings none")

// follows demands that nothing is missing between the last message and the one at seq.
func (f *feed) follows(ctx context.Context, seq event.Sequence) error {
	if d := f.log.damaged(f.node, f.at, seq); d != nil {
		return d
	}
	if len(f.cfg.Subjects) > 0 || seq == f.at+1 || uint64(seq) == f.log.begins.Load() {
		return nil
	}
	if _, err := f.log.Info(ctx); err != nil { // where does the Log begin?
		return err
	}
	if due := max(f.at+1, event.Sequence(f.log.begins.Load())); seq > due {
		return &event.DamageError{From: due, To: seq - 1, Node: f.node}
	}
	return nil
}

// whole demands at the end of a bounded feed that nothing is missing up to until.
func (f *feed) whole(until event.Sequence) error {
	if d := f.log.damaged(f.node, f.at, until); d != nil {
		return d
	}
	if due := max(f.at+1, event.Sequence(f.log.begins.Load())); len(f.cfg.Subjects) == 0 && due <= until {
		return &event.DamageError{From: due, To: until, Node: f.node}
	}
	return nil
}

// passed asks whether damage was found since where the feed has read already. A feed
// of everything knows better.
func (f *feed) passed(ctx context.Context) error {
	if _, err := f.log.Info(ctx); err != nil || len(f.cfg.Subjects) == 0 {
		return nil //nolint:nilerr // it is asked again soon
	}
	after := f.cfg.After
	if f.log.clustered {
		after = f.from // what came before came from other replicas, perhaps
	}
	if d := f.log.damaged(f.node, after, f.at); d != nil && f.at > after {
		return d
	}
	return nil
}
