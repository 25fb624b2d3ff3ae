package durablestream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path/filepath"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/projection"
)

// Append returns when the event is on disk. A second append with the same ID stores
// nothing new and returns the same position.
func ExampleDurableStream_Append() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	e := event.Event{
		ID: "evt_1", Type: "task.created", StreamID: "ses_1", Actor: "agent/planner",
		Payload: []byte(`{"title":"Refactor Auth"}`),
	}
	for range 2 { // as a program does that lost the first answer
		r, err := d.Append(ctx, e)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Seq, r.Type)
	}

	_, err := d.Append(ctx, event.Event{Type: "created", StreamID: "ses_1", Actor: "agent/planner"})
	var invalid *event.InvalidError
	if errors.As(err, &invalid) {
		fmt.Println("nothing was stored: the field", invalid.Field, "breaks a rule")
	}
	// Output:
	// 1 task.created
	// 1 task.created
	// nothing was stored: the field type breaks a rule
}

// A batch is stored as a whole or not at all.
func ExampleDurableStream_AppendBatch() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	stored, err := d.AppendBatch(ctx, []event.Event{
		{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner"},
		{Type: "task.assigned", StreamID: "ses_1", Actor: "agent/planner"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range stored {
		fmt.Println(r.Seq, r.Type)
	}
	// Output:
	// 1 task.created
	// 2 task.assigned
}

// A guard is a compare-and-set: of two appends that expect the same position of the
// guard, the log stores one.
func ExampleDurableStream_AppendGuarded() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	at, err := d.GuardPosition(ctx, "release-1.2")
	if err != nil {
		log.Fatal(err)
	}
	for _, agent := range []string{"agent/a", "agent/b"} {
		_, _, err := d.AppendGuarded(ctx, client.Guard{Name: "release-1.2", Expected: at},
			event.Event{Type: "release.started", StreamID: "ses_1", Actor: agent})
		var lost *client.ConflictError
		switch {
		case errors.As(err, &lost):
			fmt.Println(agent, "lost")
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(agent, "releases")
		}
	}
	// Output:
	// agent/a releases
	// agent/b lost
}

// Subscribe first brings what the log holds, then what is appended. A program that keeps
// the last Seq that it handled goes on from there after a restart, without a gap.
func ExampleDurableStream_Subscribe() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	appendType := func(typ string) {
		if _, err := d.Append(ctx, event.Event{Type: typ, StreamID: "ses_1", Actor: "agent/a"}); err != nil {
			log.Fatal(err)
		}
	}
	appendType("task.created")
	appendType("task.started")

	var handled event.Sequence // a real program stores it
	for e, err := range d.Subscribe(ctx, event.Filter{Types: []string{"task.*"}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Seq, e.Type)
		handled = e.Seq
		if e.Type == "task.started" {
			break // without the break, or the end of ctx, the loop waits for the next event
		}
	}
	go appendType("task.completed")
	for e, err := range d.Subscribe(ctx, event.Filter{Types: []string{"task.*"}, After: handled}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("after the restart:", e.Seq, e.Type)
		break
	}
	// Output:
	// 1 task.created
	// 2 task.started
	// after the restart: 3 task.completed
}

// Query reads what the log holds now, and ends.
func ExampleDurableStream_Query() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	for _, e := range []event.Event{
		{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner"},
		{Type: "task.created", StreamID: "ses_2", Actor: "agent/planner"},
		{Type: "tool.called", StreamID: "ses_1", Actor: "agent/coder"},
		{Type: "task.completed", StreamID: "ses_1", Actor: "agent/coder"},
	} {
		if _, err := d.Append(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	for e, err := range d.Query(ctx, event.Filter{StreamID: "ses_1", Types: []string{"task.>"}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Seq, e.Type, e.Actor)
	}
	// Output:
	// 1 task.created agent/planner
	// 4 task.completed agent/coder
}

// A handler sees each matching event that any process appends from now on.
func ExampleDurableStream_On() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	seen := make(chan string)
	h, err := d.On(ctx, "task.*", func(e event.Recorded) { seen <- e.Type })
	if err != nil {
		log.Fatal(err)
	}
	for _, typ := range []string{"task.created", "tool.called", "task.completed"} {
		if _, err := d.Append(ctx, event.Event{Type: typ, StreamID: "ses_1", Actor: "agent/a"}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-seen)
	fmt.Println(<-seen)
	h.Off()
	<-h.Done()
	// Output:
	// task.created
	// task.completed
}

// Events name their cause; projection.Lineage builds the trees.
func Example_lineage() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	for _, e := range []event.Event{
		{ID: "plan", Type: "task.created", StreamID: "ses_1", Actor: "agent/planner"},
		{ID: "code", Type: "tool.called", StreamID: "ses_2", Actor: "agent/coder", CausationID: "plan"},
		{ID: "test", Type: "tool.called", StreamID: "ses_3", Actor: "agent/tester", CausationID: "code"},
		{ID: "docs", Type: "tool.called", StreamID: "ses_2", Actor: "agent/writer", CausationID: "plan"},
	} {
		if _, err := d.Append(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	var l projection.Lineage
	for e, err := range d.Query(ctx, event.Filter{}) {
		if err == nil {
			err = l.Apply(projection.Entry{Seq: e.Seq, Event: &e})
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("test goes back to", l.Root("test"))
	l.Walk("plan", func(id string, depth int) { fmt.Printf("%d %s\n", depth, id) })
	// Output:
	// test goes back to plan
	// 0 plan
	// 1 code
	// 2 test
	// 1 docs
}

// A program joins a cluster with the URLs of its nodes, the file of its key, and the
// certificate of the authority that signed the nodes' certificates. The key's role decides
// what the program may do.
func ExampleOpen_cluster() {
	ctx := context.Background()
	servers, keys, end := startKeyed(ctx) // such as nats://n1:4222, nats://n2:4222, nats://n3:4222
	defer end()

	d, err := durablestream.Open(ctx, durablestream.Config{
		Servers: servers,
		NKey:    filepath.Join(keys, "agent.nk"), // 'dstream keys make' made it
		TLS:     client.TLSFiles{CA: filepath.Join(keys, "ca.pem")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	r, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Seq, r.Type)
	fmt.Println("this process hosts the log:", d.Hosting())
	// Output:
	// 1 task.created
	// this process hosts the log: false
}
