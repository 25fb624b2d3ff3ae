package logio

import (
	"context"
	"time"

	"durablestream/event"
	"durablestream/internal/wire"
)

// TrustTheEngine switches the late path off: an append relies on the engine's
// memory of ids however long it takes.
func (l *Log) TrustTheEngine() { l.window = 1000 * time.Hour }

// TrustTheReplica switches off what a Log does because a Log has replicas: a
// replica that has nothing more to send is taken to have everything.
func (l *Log) TrustTheReplica() { l.clustered = false }

// InACluster makes a Log take its host for a cluster.
func (l *Log) InACluster() { l.clustered = true }

// UnsureAfter reports whether an append whose try has failed so may be stored.
func (l *Log) UnsureAfter(err error) bool {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s := newSending(l)
	_ = s.failed(ended, err) // that there is no further try
	return s.unsure
}

// MoveGuard is AppendGuarded of nothing, under a mark that is the caller's: the same one
// again is the same append, tried again.
func (l *Log) MoveGuard(ctx context.Context, name string, expected event.Sequence, mark string) (event.Sequence, error) {
	b := Batch{OfGuard(wire.GuardSubject(event.GuardUser, name), wire.GuardBody{Event: mark}.Encode(), expected)}
	err := l.PublishBatch(ctx, b)
	return b[0].Seq(), err
}

// Saw makes the Log one that has read up to seq.
func (l *Log) Saw(seq event.Sequence) { l.sawSequence(seq) }

// FindAtOnce is how many questions a Log asks a host at a time.
const FindAtOnce = findAtOnce

// DenseFrom is how much such a feed must find before it reads everything.
const DenseFrom = denseFrom

// Plain makes a feed read by the engine alone.
func (cfg FeedConfig) Plain() FeedConfig {
	cfg.plain = true
	return cfg
}

// PlainAtFirst makes it so until the feed begins again.
func (cfg FeedConfig) PlainAtFirst() FeedConfig {
	cfg.first = true
	return cfg
}

// Suspect is what a cluster's feed of some subjects does which suspects its consumer to have left something
// out in (after, at], where it has brought so many messages.
func (l *Log) Suspect(ctx context.Context, subjects []string, after, at event.Sequence, brought uint64) error {
	f := &feed{log: l, cfg: FeedConfig{Subjects: subjects}, at: at, counting: counting{from: after, took: brought, node: "n1"}}
	return f.suspect(ctx)
}

// ErrStalled makes a feed continue with another consumer.
var ErrStalled = errStalled
