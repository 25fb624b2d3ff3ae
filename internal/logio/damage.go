package logio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
	"durablestream/internal/wait"
	"durablestream/internal/wire"
)

const (
	// damageLook is how often a feed that follows the Log asks whether damage was found.
	damageLook = 15 * time.Second
	// stallTime is how long a consumer with more messages may send nothing before the
	// feed suspects that it left something out.
	stallTime = 250 * time.Millisecond
	// otherReplicas is how often a feed that meets damage creates a consumer on another
	// replica.
	otherReplicas = 12
)

// learn takes the damage from an answer about the Log: the marks of the hosts, which read
// their stores all the time, and the positions that the engine itself reports as missing.
func (l *Log) learn(ctx context.Context, s jetstream.Stream, info *jetstream.StreamInfo) {
	marks := wire.Damaged(info.Config)
	l.begins.Store(max(1, info.Config.FirstSeq))
	if n := info.State.NumDeleted; n > 0 && len(marks) == 0 {
		if have := l.deleted.Load(); have == nil || have.n != n || have.last != 0 && have.last != info.State.LastSeq {
			if full, err := s.Info(ctx, jetstream.WithDeletedDetails(true)); err == nil {
				l.deleted.Store(newDeletions(n, full.State))
			}
		}
		node := ""
		if c := info.Cluster; c != nil && info.Config.Replicas > 1 {
			node = c.Leader
		}
		if have := l.deleted.Load(); have != nil {
			if at := l.written(info, have.at); len(at) > 0 {
				marks = map[string][]event.Range{node: at}
			}
		}
	}
	if len(marks) == 0 {
		l.marks.Store(nil)
		return
	}
	if l.marks.Swap(&marks) == nil {
		l.cfg.Logger.Warn("the log is damaged: 'dstream doctor' says what is wrong and repairs it", "seq", fmt.Sprint(marks))
	}
}

// written removes the last position from the damage of a single host's Log, if the engine
// counted it for a message that it could not write. That position is empty, and the next
// message gets it. If it is damage, a host of ours has marked it.
func (l *Log) written(info *jetstream.StreamInfo, missing []event.Range) []event.Range {
	last := event.Sequence(info.State.LastSeq)
	n := len(missing)
	if !l.cfg.OwnHost || info.Config.Replicas > 1 || n == 0 || missing[n-1] != (event.Range{From: last, To: last}) {
		return missing
	}
	info.State.LastSeq--
	info.State.NumDeleted--
	return missing[:n-1]
}

// deletions are the positions that are empty, as the engine reports.
type deletions struct {
	n    int
	at   []event.Range
	last uint64 // the Log's last position if it is among them, else 0
}

func newDeletions(n int, s jetstream.StreamState) *deletions {
	d := &deletions{n: n, at: ranges(s.Deleted)}
	if k := len(d.at); k > 0 && uint64(d.at[k-1].To) == s.LastSeq {
		d.last = s.LastSeq
	}
	return d
}

func ranges(seqs []uint64) []event.Range {
	slices.Sort(seqs)
	var out []event.Range
	for _, s := range seqs {
		seq := event.Sequence(s)
		if n := len(out); n > 0 && out[n-1].To+1 == seq {
			out[n-1].To = seq
			continue
		}
		out = append(out, event.Range{From: seq, To: seq})
	}
	return out
}

// Damaged returns the known damage to the Log, by the node whose copy is damaged; "" is a
// single host. It is as of the last answer about the Log's state.
func (l *Log) Damaged() map[string][]event.Range {
	if m := l.marks.Load(); m != nil {
		return *m
	}
	return nil
}

// damaged returns the first known damage in (after, until] of a node's copy.
func (l *Log) damaged(node string, after, until event.Sequence) *event.DamageError {
	if until != 0 && after >= until {
		return nil
	}
	var first *event.DamageError
	for _, whose := range []string{node, ""} {
		for _, r := range l.Damaged()[whose] {
			if r.Meets(after, until) && (first == nil || r.From < first.From) {
				first = &event.DamageError{From: r.From, To: r.To, Node: whose}
			}
		}
		if node == "" {
			break
		}
	}
	return first
}

// Verify asks the hosts that have fed a reader whether their copies are whole in (after,
// until]. A server that is not ours does not answer, and neither does a node that has
// died since.
func (l *Log) Verify(ctx context.Context, nodes []string, after, until event.Sequence) error {
	for _, node := range nodes {
		found, err := l.checked(ctx, node)
		if err != nil {
			return err
		}
		for _, r := range found {
			if r.Meets(after, until) {
				return &event.DamageError{From: r.From, To: r.To, Node: node}
			}
		}
	}
	return nil
}

// ownHostTries is how often a host of ours is asked, over a quarter of a second, before
// the client takes it for a version that does not answer.
const ownHostTries = 7

// checked asks a host to check its files and to report the damage of its copy. Callers of
// this client that ask at the same time share the answer.
func (l *Log) checked(ctx context.Context, node string) (found []event.Range, err error) {
	subject := wire.CheckSubject(node)
	if l.rights.Limited && !l.rights.May.MayPublish(subject) {
		return nil, nil // a key of an older version
	}
	shared, _ := l.checks.LoadOrStore(node, newSharing[[]event.Range]())
	for again := true; again; {
		found, err, again = shared.(*sharing[[]event.Range]).pass(ctx, func(ctx context.Context) ([]event.Range, error) {
			return l.askChecked(ctx, subject)
		})
	}
	return found, err
}

func (l *Log) askChecked(ctx context.Context, subject string) (found []event.Range, err error) {
	var backoff wait.Backoff
	for nobody := 0; ; {
		attempt, cancel := l.attempt(ctx)
		m, err := l.nc.RequestWithContext(attempt, subject, nil)
		cancel()
		busy, retry := false, time.Duration(0)
		if err == nil {
			retry, busy = wire.Busy(m)
		}
		switch {
		case busy:
			if err := busyFor(ctx, retry); err != nil {
				return nil, fmt.Errorf("the host is too busy to say whether what was read is whole: %w", err)
			}
		case err == nil:
			if err = json.Unmarshal(m.Data, &found); err != nil {
				err = fmt.Errorf("the host does not say what of its store is damaged: %w", err)
			}
			return found, err
		case errors.Is(err, nats.ErrNoResponders) && l.cfg.OwnHost && nobody < ownHostTries && backoff.Wait(ctx) == nil:
			nobody++ // a host that is ending stops answering shortly before it is cut off
			continue
		case errors.Is(err, nats.ErrNoResponders), l.clustered && ctx.Err() == nil:
			return nil, nil
		case l.beyondHope() != nil:
			return nil, l.beyondHope()
		case l.nc.IsClosed():
			return nil, l.closed()
		case final(err):
			return nil, err
		case backoff.Wait(ctx) != nil:
			return nil, fmt.Errorf("the host does not say whether what was read is whole: %w", ctx.Err())
		}
	}
}

func asDamage(err error) (*event.DamageError, bool) {
	var d *event.DamageError
	ok := errors.As(err, &d)
	return d, ok
}

// locate reads everything in (after, until] and returns the missing positions.
func (l *Log) locate(ctx context.Context, after, until event.Sequence) *event.DamageError {
	if until == 0 {
		if at, err := l.Position(ctx); err == nil {
			until = at
		}
	}
	if until <= after {
		return nil
	}
	for _, err := range l.Feed(ctx, FeedConfig{After: after, Until: until, HeadersOnly: true}) {
		if d, ok := asDamage(err); ok {
			return d
		}
		if err != nil {
			return nil // the feed retries
		}
	}
	return nil
}

// NeverWritten checks that a guard that cannot be read was never written. The engine
// leaves out a damaged message as if it did not exist, and accepts the same message
// again, but still counts it among the subject's messages.
func (l *Log) NeverWritten(ctx context.Context, guard string) error {
	var written uint64
	err := l.retry(ctx, func(ctx context.Context) error {
		info, err := (*l.stream.Load()).Info(ctx, jetstream.WithSubjectFilter(guard))
		if err == nil {
			written = info.State.Subjects[guard]
		}
		return err
	})
	if err == nil && written > 0 {
		// Perhaps it was written between the two reads.
		m, again := l.Last(ctx, guard)
		if again == nil && m != nil {
			return nil
		}
		open := false
		if again == nil {
			open, again = l.openAtEnd(ctx)
		}
		if open { // perhaps with the guard
			return nil
		}
		err = errors.Join(again, fmt.Errorf("%s was written and cannot be read: the log is damaged; 'dstream doctor' says what is wrong and repairs it", guard))
	}
	return err
}

// EndsAt checks that the Log did not continue behind its reported end: an engine whose
// newest file was cut off takes the rest for the whole Log.
func (l *Log) EndsAt(ctx context.Context, end event.Sequence) error {
	if l.clustered {
		return nil // where the others would not follow it
	}
	if err := l.Verify(ctx, []string{""}, end, 0); err != nil {
		return fmt.Errorf("client: read the Log: %w", err)
	}
	return nil
}
