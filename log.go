package durablestream

import (
	"context"
	"iter"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
)

// Append stores one event: see client.Client.Append.
func (d *DurableStream) Append(ctx context.Context, e event.Event) (event.Recorded, error) {
	return d.client.Append(ctx, e)
}

// AppendBatch stores all events or none: see client.Client.AppendBatch.
func (d *DurableStream) AppendBatch(ctx context.Context, events []event.Event) ([]event.Recorded, error) {
	return d.client.AppendBatch(ctx, events)
}

// AppendGuarded stores events where a guard is as expected: see client.Client.AppendGuarded.
func (d *DurableStream) AppendGuarded(ctx context.Context, g client.Guard, events ...event.Event) (event.Sequence, []event.Recorded, error) {
	return d.client.AppendGuarded(ctx, g, events...)
}

// GuardPosition is where a guard of AppendGuarded was last written; 0: never.
func (d *DurableStream) GuardPosition(ctx context.Context, name string) (event.Sequence, error) {
	return d.client.GuardPosition(ctx, name)
}

// Query brings the events that match f, in order, up to the end: see client.Client.Query.
func (d *DurableStream) Query(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return d.client.Query(ctx, f)
}

// Subscribe brings the events that match f, in order, and those to come: see
// client.Client.Subscribe.
func (d *DurableStream) Subscribe(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return d.client.Subscribe(ctx, f)
}

// On calls f with each event from now on whose type matches pattern: see client.Client.On.
func (d *DurableStream) On(ctx context.Context, pattern string, f func(event.Recorded)) (*client.Handler, error) {
	return d.client.On(ctx, pattern, f)
}

// Position is the last Sequence of the Log: see client.Client.Position.
func (d *DurableStream) Position(ctx context.Context) (event.Sequence, error) {
	return d.client.Position(ctx)
}

// Barrier is a Sequence that is not before any event whose append had returned: see
// client.Client.Barrier.
func (d *DurableStream) Barrier(ctx context.Context) (event.Sequence, error) {
	return d.client.Barrier(ctx)
}

// Resume tells what a process that starts again has to know: what waits, and what is
// unfinished.
func (d *DurableStream) Resume(ctx context.Context) (client.Resume, error) {
	return d.client.Resume(ctx)
}

// Checkpoints are the questions that wait for a human.
func (d *DurableStream) Checkpoints() client.Checkpoints { return d.client.Checkpoints() }

// Intents are the units of work that agents create, claim and end.
func (d *DurableStream) Intents() client.Intents { return d.client.Intents() }

// Sessions are the sessions of agents.
func (d *DurableStream) Sessions() client.Sessions { return d.client.Sessions() }

// CorrelationID is given to events that have none.
func (d *DurableStream) CorrelationID() string { return d.client.CorrelationID() }

// Client is what package mirror and the like take. Close ends it.
func (d *DurableStream) Client() *client.Client { return d.client }

// Admin is what operators and tools ask of a log and of its host.
type Admin struct {
	client.Admin
	d *DurableStream
}

// Admin is what operators and tools ask of this log and of its host.
func (d *DurableStream) Admin() Admin { return Admin{d.client.Admin(), d} }

// HostStatus asks the host about itself.
func (a Admin) HostStatus(ctx context.Context) (HostStatus, error) { return a.d.process.Status(ctx) }

// Copied is why this is a temporary copy of the log, and not the log itself; nil: it is
// the log. See Command.ReadCopy.
func (a Admin) Copied() *broker.UnwritableError { return a.d.process.Copied() }

// Hosted is closed when this process begins to host.
func (a Admin) Hosted() <-chan struct{} { return a.d.process.Hosted() }

// WhyEvicted is the error behind DurableStream.Evicted, once that is closed: nil where the
// directory is back.
func (a Admin) WhyEvicted() error { return a.d.process.WhyEvicted() }

// Conn is the connection to the broker. DurableStream.Close closes it.
func (a Admin) Conn() *nats.Conn { return a.d.process.Conn }

// RecreateLog creates an empty Log that begins at first, for a restore. The host can, and
// on Servers a key that may change the Log.
func (a Admin) RecreateLog(ctx context.Context, first event.Sequence) error {
	return a.d.process.RecreateLog(ctx, first)
}

// ReloadKeys lets the host, if it is in this process, read its key list again. A
// process that stands by reads it when it takes over.
func (a Admin) ReloadKeys() error { return a.d.process.ReloadKeys() }

// RevokeKeys lets the host, if it is in this process and has keys, cut off every client
// that a key let in; the host's own connections go on. It is for a key list from which
// the last key was taken, which ReloadKeys refuses; ReloadKeys lets keys in again.
func (a Admin) RevokeKeys() error { return a.d.process.RevokeKeys() }
