package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The exit statuses that scripts rely on.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args string
		want int
		say  string // on stderr
	}{
		{"version", exitDone, ""},
		{"nonsense", exitUsage, "unknown command"},
		{"append", exitUsage, "takes one TYPE"},
		{"append task.created --stream s --actor a --timeout 0s", exitUsage, "must be more than 0"},
		{"append task --stream s --actor a", exitUsage, "2 to 8 tokens"},
		{"query --limit -1", exitUsage, "invalid limit"},
		{"query --nonsense", exitUsage, "unknown flag"},
		{"query --dir=", exitUsage, "--dir (DSTREAM_DIR) is empty"},
		{"query --tls-cert c.pem", exitUsage, "--tls-cert and --tls-key go together"},
		{"serve --tls-key c.key", exitUsage, "--tls-cert and --tls-key go together"},
		{"serve --listen nonsense", exitUsage, "must be host:port"},
		{"serve --monitor nonsense", exitUsage, "must be host:port"},
		{"serve --name n1 --cluster-name ds --cluster-listen 127.0.0.1:1 --routes nats://127.0.0.1:1 --replicas 2", exitUsage, "replicas 2: must be 1, 3 or 5"},
		{"append task.created --stream s --actor a", exitDone, ""},
		{"restore", exitFailed, "not empty"},
		{"import nothere.jsonl", exitFailed, "nothere.jsonl"},
		{"checkpoint request --id c --stream s --actor a --decision-point go?", exitDone, ""},
		{"checkpoint wait c --timeout 10ms", exitFailed, "was not decided within 10ms"},
		{"checkpoint approve nobody --by b", exitFailed, "no such checkpoint"},
		{"checkpoint approve c --by a", exitFailed, "cannot decide"},
		{"checkpoint reject c --by b", exitDone, ""},
		{"checkpoint wait c", exitOther, ""},
		{"checkpoint approve c --by d", exitOther, "decided already"},
		{"checkpoint request --id d --stream s --actor a --decision-point go?", exitDone, ""},
		{"checkpoint approve d --by b", exitDone, ""},
		{"checkpoint wait d", exitDone, ""},
		{"intent create --id i --stream s", exitDone, ""},
		{"intent create --id i --stream s", exitOther, "there already"},
		{"intent claim i --by w", exitDone, ""},
		{"intent claim i --by x", exitOther, "held by another"},
		{"intent complete i --by w --token 1", exitOther, "conflict"},
		{"intent complete i --by w", exitDone, ""},
		{"intent abort i --by w", exitOther, "has ended"},
		{"intent show nobody", exitFailed, "no such intent"},
	} {
		var out, words bytes.Buffer
		got := run(append([]string{"--dir", dir}, strings.Fields(c.args)...), strings.NewReader(""), &out, &words)
		require.Equal(t, c.want, got, "%s: %s", c.args, &words)
		if c.say == "" {
			require.Empty(t, words.String(), c.args)
		} else {
			require.Contains(t, words.String(), c.say, c.args)
		}
	}
}
