package durablestream_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"durablestream"
	"durablestream/event"
)

// The program of README's "In Go".
func Example_readme() {
	tmp, err := os.MkdirTemp("", "readme")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dir, ctx := filepath.Join(tmp, ".opencode"), context.Background()

	d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir}) // hosts the log, or joins its host
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	// Append returns when the event is on disk.
	r, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: "ses_1", Actor: "agent/planner",
		Payload: []byte(`{"title":"Refactor Auth"}`)})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range d.Query(ctx, event.Filter{StreamID: "ses_1"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Seq == r.Seq, e.Type, string(e.Payload))
	}
	// Output:
	// true task.created {"title":"Refactor Auth"}
}
