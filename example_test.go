package durablestream_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"durablestream"
	"durablestream/event"
)

// The Quick Start of the original module, step by step.
func Example() {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// 1. Get the instance that this process shares. It hosts the log, or joins
	// the process that does; there is nothing else to initialize.
	stream, err := durablestream.Get(ctx, durablestream.Config{Dir: filepath.Join(dir, ".opencode")})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()

	// 2. Subscribe to events, from now on.
	from, err := stream.Position(ctx)
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range stream.Subscribe(ctx, event.Filter{Types: []string{"task.completed"}, After: from, Limit: 1}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("task done: %s\n", e.Payload)
		}
	}()

	// 3. Append events. Append returns when the event is on disk.
	for _, e := range []event.Event{
		{Type: "task.created", Actor: "agent/planner", Payload: []byte(`{"title":"Refactor Auth"}`)},
		{Type: "task.completed", Actor: "agent/executor", Payload: []byte(`{"result":"ok"}`)},
	} {
		if _, err := stream.Append(ctx, e); err != nil {
			log.Fatal(err)
		}
	}
	<-done

	// 4. Query history.
	for e, err := range stream.Query(ctx, event.Filter{Actor: "agent/planner"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s %s\n", e.Seq, e.Type, e.Payload)
	}

	// Output:
	// task done: {"result":"ok"}
	// 1 task.created {"title":"Refactor Auth"}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "open")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	d, err := durablestream.Open(ctx, durablestream.Config{Dir: filepath.Join(dir, ".opencode")})
	if err != nil {
		log.Fatal(err)
	}
	r, err := d.Append(ctx, event.Event{
		Type: "ledger.task.created", StreamID: "ses_1", Actor: "chief-of-staff",
		Payload: []byte(`{"taskId":"task_1","title":"Refactor Auth"}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Seq, r.Type, d.Hosting())

	// Close writes the mirror up to the end; then the file holds the event.
	if err := d.Close(); err != nil {
		log.Fatal(err)
	}
	file, err := os.ReadFile(durablestream.MirrorPath(d.Dir()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(file) > 0)
	// Output:
	// 1 ledger.task.created true
	// true
}
