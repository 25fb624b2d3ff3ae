package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary stand in for the program: as dstream in the
// scripts, and as the processes that TestKill starts and kills.
func TestMain(m *testing.M) {
	switch os.Getenv("DSTREAM_TEST_AS") {
	case "dstream":
		main()
	case "appender":
		appender()
	case "contender":
		contender()
	case "worker":
		worker()
	}
	testscript.Main(m, map[string]func(){"dstream": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
