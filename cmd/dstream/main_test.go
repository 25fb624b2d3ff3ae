package main

import (
	"os"
	"testing"
	"time"

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
	case "subscriber":
		subscriber()
	case "worker":
		worker()
	}
	testscript.Main(m, map[string]func(){"dstream": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"waitfor": waitFor,
	}})
}

// waitFor waits until a file is there.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s did not appear", args[0])
		}
	}
}
