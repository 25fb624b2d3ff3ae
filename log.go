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

// AppendGuarded stores events if a guard is as expected: see client.Client.AppendGuarded.
func (d *DurableStream) AppendGuarded(ctx context.Context, g client.Guard, events ...event.Event) (event.Sequence, []event.Recorded, error) {
	return d.client.AppendGuarded(ctx, g, events...)
}

// GuardPosition returns the last Sequence of a guard of AppendGuarded; 0: never written.
func (d *DurableStream) GuardPosition(ctx context.Context, name string) (event.Sequence, error) {
	return d.client.GuardPosition(ctx, name)
}

// Query yields the events that match f, in order, up to the end: see client.Client.Query.
func (d *DurableStream) Query(ctx context.Context, f event.Filter) iter.Seq2[event.Recorded, error] {
	return d.client.Query(ctx, f)
}

// Subscribe yields the events that match f, in order, and continues with new ones: see
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

// Barrier returns a Sequence at or after every event whose append had returned: see
// client.Client.Barrier.
func (d *DurableStream) Barrier(ctx context.Context) (event.Sequence, error) {
	return d.client.Barrier(ctx)
}

// Resume reports what a process that starts again needs: pending checkpoints, active
// intents and open sessions.
func (d *DurableStream) Resume(ctx context.Context) (client.Resume, error) {
	return d.client.Resume(ctx)
}

// Checkpoints are the questions that wait for a human.
func (d *DurableStream) Checkpoints() client.Checkpoints { return d.client.Checkpoints() }

// Intents are the units of work that agents create, claim and end.
func (d *DurableStream) Intents() client.Intents { return d.client.Intents() }

// Sessions are the sessions of agents.
func (d *DurableStream) Sessions() client.Sessions { return d.client.Sessions() }

// CorrelationID returns the CorrelationID for events without one.
func (d *DurableStream) CorrelationID() string { return d.client.CorrelationID() }

// Client returns the client that package mirror and others need. Close ends it.
func (d *DurableStream) Client() *client.Client { return d.client }

// Admin is the calls for operators and tools, on a log and its host.
type Admin struct {
	client.Admin
	d *DurableStream
}

// Admin returns the calls for operators and tools.
func (d *DurableStream) Admin() Admin { return Admin{d.client.Admin(), d} }

// HostStatus asks the host about itself.
func (a Admin) HostStatus(ctx context.Context) (HostStatus, error) { return a.d.process.Status(ctx) }

// Copied is the reason why this is a temporary copy of the log; nil: it is the log
// itself. See Command.ReadCopy.
func (a Admin) Copied() *broker.UnwritableError { return a.d.process.Copied() }

// Hosted is closed when this process begins to host.
func (a Admin) Hosted() <-chan struct{} { return a.d.process.Hosted() }

// WhyEvicted is the error behind DurableStream.Evicted, once that is closed: nil if the
// directory is back.
func (a Admin) WhyEvicted() error { return a.d.process.WhyEvicted() }

// Conn is the connection to the broker. DurableStream.Close closes it.
func (a Admin) Conn() *nats.Conn { return a.d.process.Conn }

// RecreateLog creates an empty Log that begins at first, for a restore. The host may do
// this, and on Servers a key that may change the Log.
func (a Admin) RecreateLog(ctx context.Context, first event.Sequence) error {
	return a.d.process.RecreateLog(ctx, first)
}

// ReloadKeys makes the host, if it is in this process, read its key list again. A process
// that stands by reads the list when it takes over.
func (a Admin) ReloadKeys() error { return a.d.process.ReloadKeys() }

// RevokeKeys makes the host, if it is in this process and has keys, disconnect every
// client that a key let in; the host's own connections continue. It is for a key list
// from which the last key was taken, which ReloadKeys refuses; ReloadKeys lets keys in
// again.
func (a Admin) RevokeKeys() error { return a.d.process.RevokeKeys() }
