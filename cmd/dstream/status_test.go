package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/internal/address"
	"durablestream/internal/monitor"
	st "durablestream/internal/status"
)

var hostPID = regexp.MustCompile(`pid (\d+)\)`)

// A host that is stopped by a signal answers nobody. status says so at once, with
// its pid and what to do, and all is well again when it goes on.
func TestStatusOfAStoppedHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	cmd, _ := hosting(t, dir, hostPID)
	status, out, words := dstream(t, "--dir", dir, "status")
	require.Zero(t, status, out+words)

	pid := strconv.Itoa(cmd.Process.Pid)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGCONT) })
	require.Eventually(t, func() bool { return address.Stopped(cmd.Process.Pid) }, 5*time.Second, time.Millisecond)
	began := time.Now()
	status, out, words = dstream(t, "--dir", dir, "status")
	require.Less(t, time.Since(began), time.Second)
	require.Equal(t, exitFailed, status)
	require.Empty(t, words)
	require.Contains(t, out, "ALARM")
	require.Contains(t, out, "process "+pid+", is stopped")
	require.Contains(t, out, "kill -CONT "+pid)
	require.NotContains(t, out, "position")

	status, out, _ = dstream(t, "--dir", dir, "status", "--json")
	require.Equal(t, exitFailed, status)
	var a st.Answer
	require.NoError(t, json.Unmarshal([]byte(out), &a))
	require.True(t, a.Stopped)
	require.True(t, a.Running)
	require.Equal(t, st.AlarmStopped, a.Alarms[0].Name)
	require.Equal(t, cmd.Process.Pid, a.Host.PID)
	for _, unknown := range []string{"position", "messages", "missing", "mirror_lag", "disk_full", "disk_free", "mirror_seq", "checked"} {
		require.NotContains(t, out, `"`+unknown+`"`)
	}

	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool {
		status, out, words = dstream(t, "--dir", dir, "status")
		return status == exitDone
	}, 5*time.Second, 10*time.Millisecond, "%s%s", out, words)
}

// statusOf asks for the status, which must be an answer.
func statusOf(t *testing.T, args ...string) (st.Answer, int) {
	t.Helper()
	status, out, words := dstream(t, append(args, "status", "--json")...)
	var a st.Answer
	require.NoError(t, json.Unmarshal([]byte(out), &a), "%s%s", out, words)
	return a, status
}

// has reports that there is this alarm.
func has(a st.Answer, alarm, node string) bool {
	for _, x := range a.Alarms {
		if x.Name == alarm && x.Node == node {
			return true
		}
	}
	return false
}

// Each node of a cluster is shown, by itself and by what the leader says of it; one
// that is lost makes an alarm; with the majority lost, who is left still tells.
func TestStatusOfACluster(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	servers := "--server=" + strings.Join(n.servers, ",")
	status, _, words := dstream(t, servers, "append", "task.created", "--stream", "s", "--actor", "a")
	require.Zero(t, status, words)

	var a st.Answer
	require.Eventually(t, func() bool { a, status = statusOf(t, servers); return status == exitDone }, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, "ds", a.Cluster)
	require.Len(t, a.Nodes, 3)
	leads := 0
	for i, node := range a.Nodes {
		require.Equal(t, fmt.Sprintf("n%d", i+1), node.Name)
		require.Equal(t, n.procs[i].Process.Pid, node.Host.PID)
		require.True(t, node.Replica.Current)
		if node.Replica.Leader {
			leads++
			require.Equal(t, node.Name, a.Leader)
		}
	}
	require.Equal(t, 1, leads)
	ofNode, _ := statusOf(t, "--dir", n.dirOf(1))
	require.Len(t, ofNode.Nodes, 3, "from a node's own directory as well")

	monitored := &st.Watched{}
	monitored.Opened(n.open(t))
	look := func() monitor.Snapshot {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return monitored.Look(ctx)
	}
	s := look()
	require.Empty(t, s.Reasons)
	require.Len(t, s.Replicas, 3)

	// One that the leader does not hear is an alarm.
	lost := (slices.IndexFunc(a.Nodes, func(x st.Node) bool { return x.Name == a.Leader }) + 1) % 3
	require.NoError(t, n.procs[lost].Process.Kill())
	<-n.exit[lost]
	require.Eventually(t, func() bool {
		a, status = statusOf(t, servers)
		return status == exitFailed && has(a, st.AlarmOffline, a.Nodes[lost].Name)
	}, 30*time.Second, 100*time.Millisecond, "%v", a.Alarms)
	require.Nil(t, a.Nodes[lost].Host)
	require.Len(t, a.Alarms, 1, "once, not in two ways")

	require.Eventually(t, func() bool { return len(look().Reasons) == 0 }, 10*time.Second, 10*time.Millisecond, "a majority is there")

	// Nobody can read the log any more, and the last node still answers.
	other := (lost + 1) % 3
	require.NoError(t, n.procs[other].Process.Kill())
	<-n.exit[other]
	require.Eventually(t, func() bool {
		a, status = statusOf(t, servers)
		return status == exitFailed && a.Unreadable
	}, 60*time.Second, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		s = look()
		return s.Log == nil && len(s.Reasons) == 1 && strings.Contains(s.Reasons[0].Message, fmt.Sprintf(
			"n%d and n%d do not answer", min(lost, other)+1, max(lost, other)+1))
	}, 30*time.Second, 100*time.Millisecond, "%v", s.Reasons)
	require.True(t, has(a, st.AlarmUnreadable, ""))
	require.Nil(t, a.Position, "what is not known is left out")
	require.Equal(t, n.procs[3-lost-other].Process.Pid, a.Nodes[slices.IndexFunc(a.Nodes, func(x st.Node) bool { return !x.Silent })].Host.PID)
	require.Len(t, a.Silent, 2)

	// Nobody is there any more.
	require.NoError(t, n.procs[3-lost-other].Process.Kill())
	<-n.exit[3-lost-other]
	status, out, words := dstream(t, servers, "status", "--json")
	require.Equal(t, exitFailed, status)
	require.Empty(t, words)
	require.Contains(t, out, "none of the servers answers: start the nodes")
	require.NotContains(t, out, `"position"`)
	require.NotContains(t, out, `"mirror_lag"`)
}
