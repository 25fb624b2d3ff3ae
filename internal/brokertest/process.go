package brokertest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"durablestream/broker"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// hostDir names the directory that a process of ChildHost hosts.
const hostDir = "BROKERTEST_HOST"

// Main runs a package's tests, and fails if they leave a goroutine behind. In a process
// of ChildHost it hosts instead.
func Main(m *testing.M) {
	if dir := os.Getenv(hostDir); dir != "" {
		hostUntilStdinEnds(dir)
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

// ChildHost starts another process of this test binary, which hosts dir until the test
// ends. The package's TestMain calls Main.
func ChildHost(t testing.TB, dir string) *exec.Cmd {
	t.Helper()
	return Child(t, hostDir+"="+dir)
}

func hostUntilStdinEnds(dir string) {
	b, err := broker.Start(context.Background(), broker.Config{Dir: dir})
	if err == nil {
		err = b.Advertise()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = b.Stop(context.Background()) // no caller would see the error
}

// Child runs this test binary once more, until the test ends, and returns when it has
// said that it is ready. env tells its TestMain what to be.
func Child(t testing.TB, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // a second one where the test has waited
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "the child says that it is ready")
	require.Equal(t, "ready\n", line)
	return cmd
}
