package client_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"durablestream/broker"
	"durablestream/internal/brokertest"
)

// hostDir makes this test binary a host of that directory, until its stdin ends.
const hostDir = "CLIENT_TEST_HOST"

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDir); dir != "" {
		host(dir)
		return
	}
	brokertest.Main(m)
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
	b.Stop(context.Background()) // no caller would see the error
}
