package mirror_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"durablestream"
	"durablestream/event"
	"durablestream/mirror"
)

// Verify compares the files with the Log line by line: it names the first line that
// somebody changed.
func ExampleVerify() {
	dir, err := os.MkdirTemp("", "verify")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	for _, typ := range []string{"task.created", "task.completed"} {
		if _, err := d.Append(ctx, event.Event{Type: typ, StreamID: "ses_1", Actor: "agent/a"}); err != nil {
			log.Fatal(err)
		}
	}
	cfg := mirror.Config{Client: d.Client(), Dir: dir}
	r, err := mirror.Verify(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Lines, "lines are right; problem:", r.Problem)

	path := durablestream.MirrorPath(dir)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("9"), int64(len(`{"seq":`))); err != nil { // line 1 lies now
		log.Fatal(err)
	}
	if r, err = mirror.Verify(ctx, cfg); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the files differ from the log:", r.Problem != nil)
	// Output:
	// 2 lines are right; problem: <nil>
	// the files differ from the log: true
}
