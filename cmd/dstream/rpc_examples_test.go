package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The examples of docs/protocol.md run.
func TestRPCExamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		interpreter, script string
		says                []string
	}{
		{"bash", "rpc.sh", []string{"approved\n", `"payload":{"title":"Refactor Auth"}`, `"more":false`}},
		{"python3", "rpc.py", []string{"task done: ok\n", "planned: 100\n", "refused: own_checkpoint\n", "decided: rejected\n"}},
	} {
		t.Run(c.script, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.interpreter); err != nil {
				t.Skipf("%s is not installed", c.interpreter)
			}
			cmd := exec.Command(c.interpreter, filepath.Join("..", "..", "examples", c.script), standIn(t), rpcDir(t))
			cmd.Env = append(os.Environ(), "DSTREAM_TEST_AS=dstream")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			for _, words := range c.says {
				require.Contains(t, string(out), words)
			}
		})
	}
}
