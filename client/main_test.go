package client_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"durablestream/broker"
)

// hostDir makes this test binary a host of that directory, until its stdin ends.
const hostDir = "CLIENT_TEST_HOST"

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDir); dir != "" {
		host(dir)
		return
	}
	code := m.Run()
	if code == 0 {
		if err := noLeaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// engineFlush is a goroutine of the engine's: a batch that is committed just while
// the server stops can leave the flusher of its block behind (nats-server v2.15.2,
// spinUpFlushLoopLocked), asleep. It is not ours to end.
var engineFlush = goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop")

// noLeaks waits for every goroutine to end. The engine keeps those of a batch that
// was on its way when it stopped for 10 s more.
func noLeaks() error {
	for end := time.Now().Add(15 * time.Second); ; {
		if err := goleak.Find(engineFlush); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func host(dir string) {
	b, err := broker.Start(context.Background(), broker.Config{Dir: dir})
	if err == nil {
		err = b.Advertise()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	b.Stop(context.Background()) // nobody is there to hear of it
}
