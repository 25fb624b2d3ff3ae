package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	st "durablestream/internal/status"
)

// asDstream makes cluster.sh use this test's binary as the program.
func asDstream(t *testing.T) []string {
	t.Helper()
	return []string{"DSTREAM_TEST_AS=dstream", "DSTREAM=" + must(filepath.Abs(standIn(t)))}
}

// make cluster makes a cluster that agents and operators can use with their keys,
// and Ctrl-C stops it in order.
func TestMakeCluster(t *testing.T) {
	t.Parallel()
	dir, ports, words := t.TempDir(), freePorts(t, 10), &syncBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := clusterScript(ctx, append(asDstream(t), "CLUSTER_DIR="+dir, "CLUSTER_PORTS="+strings.Join(ports, " ")))
	cmd.Stdout, cmd.Stderr = words, words
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which stops its processes
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(cancel)
	says := func(what string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(words.String(), what) }, 60*time.Second, 10*time.Millisecond, "it does not say %q, but:\n%v", what, words)
	}
	says("The cluster ds is up")

	key := func(name string, args ...string) []string {
		return append([]string{
			"--server", "nats://127.0.0.1:" + ports[1] + ",nats://127.0.0.1:" + ports[2],
			"--tls-ca", filepath.Join(dir, "keys", "ca.pem"), "--nkey", filepath.Join(dir, "keys", name+".nk"),
		}, args...)
	}
	status, out, said := dstream(t, key("agent", "append", "task.created", "--stream", "s", "--actor", "a")...)
	require.Zero(t, status, said)
	mirrored := filepath.Join(dir, "mirror", "durable_stream.jsonl")
	id := regexp.MustCompile(`"id":"[^"]+"`).FindString(out)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(mirrored)
		return err == nil && strings.Contains(string(b), id)
	}, 10*time.Second, 10*time.Millisecond)
	var a st.Answer
	require.Eventually(t, func() bool { a, status = statusOf(t, key("operator")...); return status == exitDone }, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, client.RoleOperator, a.Role)
	require.Len(t, a.Nodes, 3)
	for _, n := range a.Nodes {
		require.NotNil(t, n.Host, "each node answers an operator: %s", n.Name)
		require.True(t, n.Host.MirrorOff)
	}
	status, out, said = dstream(t, "health", "--tls-ca", filepath.Join(dir, "keys", "ca.pem"), "https://127.0.0.1:"+ports[6])
	require.Zero(t, status, said)
	require.Contains(t, out, "healthy: n1 (host)")
	status, out, said = dstream(t, "health", "127.0.0.1:"+ports[9])
	require.Zero(t, status, said)
	require.Contains(t, out, "healthy: mirroring")
	m := scrape(t, "http://127.0.0.1:"+ports[9])
	require.InDelta(t, 1, m["durable_stream_mirror_lines_total"], 0)
	require.InDelta(t, 0, m["durable_stream_mirror_lag_positions"], 0)

	cancel()
	select {
	case err := <-ended:
		require.True(t, err == nil || errors.Is(err, context.Canceled), "%v\n%v", err, words)
	case <-time.After(60 * time.Second):
		require.Fail(t, "it does not stop", "%v", words)
	}
	at := 0
	for _, name := range []string{"mirror", "n1", "n2", "n3"} {
		end := strings.LastIndex(words.String(), name+": stopped")
		require.Greater(t, end, at, "%s stops after the one before:\n%v", name, words)
		at = end
	}
}

// freePorts are ports that were free a moment ago, and differ.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l := listen(t)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		ports = append(ports, port)
	}
	return ports
}

// A command that begins while the nodes choose a new leader waits for it, and needs
// no second try.
func TestAppendWhileALeaderIsChosen(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	leader := n.leader(t, n.open(t))
	require.NoError(t, n.procs[leader].Process.Kill())
	<-n.exit[leader]
	status, _, words := dstream(t, "--server", strings.Join(n.servers, ","), "append", "task.created", "--stream", "s", "--actor", "a")
	require.Zero(t, status, words)
}
