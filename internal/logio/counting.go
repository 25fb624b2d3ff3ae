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

// The engine silently leaves out a message that it cannot read. A feed of everything
// notices that in the Sequences, each of which must follow the one before. A feed with a
// filter counts instead.
//
// When the feed creates a consumer, the engine says how many of the stored messages the
// consumer will send. That number is from the engine's index, and does not depend on
// whether the messages can be read. So the first that many messages must all come, and
// each of them was stored before. A message that is left out shows in one of two ways:
// the consumer has nothing more although more is due, or a message among them was stored
// later. Then the feed searches for the gap by reading everything: only that decides.
//
// The count does not show what is left out before a reader stops by itself (a limit), nor
// what the engine has cut off its files together with its index. A bounded reader with a
// filter therefore asks the host, after the read, to check what has changed in its files;
// see verify. Without such a host, the hosts' marks show the damage, after seconds.
type counting struct {
	from event.Sequence // the position before the present consumer's first message
	node string         // the node whose copy of the Log it reads; "" on a single host
	read []string       // nodes that the feed has read, without seeing gaps
	due  uint64         // number of messages that were stored when it was created
	took uint64         // number of messages behind from that it has sent
	made time.Time      // the latest time of that creation, by the server's clock

	patience time.Duration // how long to wait for a consumer that has more and sends nothing
}

// serves begins to count the messages of a new consumer.
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

// off reports whether message n of the consumer shows that an earlier one was left out.
// pending is the number that the server has left.
func (f *feed) off(n, pending uint64, m jetstream.Msg) bool {
	if n+pending < f.due {
		return true
	}
	if n > f.due || f.made.IsZero() || len(f.cfg.Subjects) == 0 || f.log.clustered { // in a cluster each node has its own clock
		return false
	}
	meta, err := m.Metadata()
	return err == nil && meta.Timestamp.After(f.made)
}

// owed reports whether a bounded feed at its end still waits for due messages: no more
// than are already on their way.
func (f *feed) owed(n uint64) bool {
	return len(f.cfg.Subjects) > 0 && n < f.due && f.due-n <= feedMessages
}

// suspect searches for a gap where the present consumer has read. If there is none, the
// feed continues with another consumer, and waits longer before it suspects that one.
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

// leftOut returns the messages that a consumer has left out that has read up to at and
// has nothing more, although more was due.
func (f *feed) leftOut(ctx context.Context, at event.Sequence) error {
	switch {
	case len(f.cfg.Subjects) > 0: // anywhere in what it has read
		return f.recount(ctx, at)
	case at > f.at:
		return &event.DamageError{From: f.at + 1, To: at, Node: f.node}
	}
	return nil // it has not read that yet
}

// recount reads everything that a cluster's consumer has gone through, up to the position
// to, with other consumers, and counts what it should have sent. Its replica may have
// been reset to a snapshot meanwhile, to store the rest again. Then the consumer had
// fewer messages than the engine promised, and has left out nothing.
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

// follows checks that nothing is missing between the last message and the one at seq.
func (f *feed) follows(ctx context.Context, seq event.Sequence) error {
	if d := f.log.damaged(f.node, f.at, seq); d != nil {
		return d
	}
	if len(f.cfg.Subjects) > 0 || seq == f.at+1 || uint64(seq) == f.log.begins.Load() {
		return nil
	}
	if _, err := f.log.Info(ctx); err != nil { // where the Log begins
		return err
	}
	if due := max(f.at+1, event.Sequence(f.log.begins.Load())); seq > due {
		return &event.DamageError{From: due, To: seq - 1, Node: f.node}
	}
	return nil
}

// whole checks, at the end of a bounded feed, that nothing is missing up to until.
func (f *feed) whole(until event.Sequence) error {
	if d := f.log.damaged(f.node, f.at, until); d != nil {
		return d
	}
	if due := max(f.at+1, event.Sequence(f.log.begins.Load())); len(f.cfg.Subjects) == 0 && due <= until {
		return &event.DamageError{From: due, To: until, Node: f.node}
	}
	return nil
}

// passed asks whether damage was found in what the feed has read already. A feed of
// everything needs no answer: it sees gaps by itself.
func (f *feed) passed(ctx context.Context) error {
	if _, err := f.log.Info(ctx); err != nil || len(f.cfg.Subjects) == 0 {
		return nil //nolint:nilerr // it is asked again soon
	}
	after := f.cfg.After
	if f.log.clustered {
		after = f.from // perhaps other replicas sent the earlier messages
	}
	if d := f.log.damaged(f.node, after, f.at); d != nil && f.at > after {
		return d
	}
	return nil
}
