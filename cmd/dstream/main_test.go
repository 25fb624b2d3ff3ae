package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
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
	testscript.Main(tidy{m}, map[string]func(){"dstream": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	program := standIn(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(env *testscript.Env) error {
		if program != os.Args[0] { // else the scripts' command is this test binary already
			env.Setenv("PATH", filepath.Dir(program)+string(filepath.ListSeparator)+env.Getenv("PATH"))
		}
		return nil
	}, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"waitfor": func(ts *testscript.TestScript, _ bool, args []string) {
			if !appears(t, ts.MkAbs(args[0])) {
				ts.Fatalf("%s did not appear", args[0])
			}
		},
	}})
}

// appears waits until a file is there, and says whether it came.
func appears(t *testing.T, path string) bool {
	t.Helper()
	return assert.Eventually(t, func() bool {
		_, err := os.Stat(path)
		return err == nil
	}, 20*time.Second, 5*time.Millisecond, path)
}
