package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/freeport"
	"durablestream/internal/longtest"
	"durablestream/internal/wait"
	"durablestream/mirror"
)

// nodes are three `dstream serve` processes that make a cluster on the loopback.
type nodes struct {
	dir     string
	ports   []string // of the clients, then of the routes
	procs   [3]*exec.Cmd
	words   [3]*syncBuffer
	exit    [3]chan error
	servers []string
	flags   []string // of serve, besides
}

func newNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{dir: t.TempDir()}
	for range 6 { // all are taken before any is freed, so that they differ
		l, err := freeport.Listen()
		require.NoError(t, err)
		defer l.Close()
		n.ports = append(n.ports, l.Addr().String())
	}
	for _, p := range n.ports[:3] {
		n.servers = append(n.servers, "nats://"+p)
	}
	return n
}

func (n *nodes) dirOf(i int) string { return filepath.Join(n.dir, fmt.Sprintf("n%d", i+1)) }

func (n *nodes) start(t *testing.T, which ...int) {
	t.Helper()
	for _, i := range which {
		n.words[i], n.exit[i] = &syncBuffer{}, make(chan error, 1)
		args := append([]string{"--dir", n.dirOf(i), "serve", "--name", fmt.Sprintf("n%d", i+1),
			"--cluster-name", "ds", "--cluster-listen", n.ports[3+i],
			"--routes", "nats://" + strings.Join(n.ports[3:], ",nats://"), "--listen", n.ports[i]}, n.flags...)
		cmd := as(t, "dstream", n.words[i], nil, args...)
		require.NoError(t, cmd.Start())
		n.procs[i] = cmd
		go func() { n.exit[i] <- cmd.Wait() }()
	}
}

// says waits until a node has said something.
func (n *nodes) says(t *testing.T, i int, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(n.words[i].String(), what) }, 60*time.Second, 10*time.Millisecond,
		"n%d does not say %q, but:\n%v", i+1, what, n.words[i])
}

func (n *nodes) serving(t *testing.T, which ...int) {
	t.Helper()
	for _, i := range which {
		n.says(t, i, "hosts the log of")
	}
}

// stop ends nodes in an orderly way, all at once, and waits for them.
func (n *nodes) stop(t *testing.T, which ...int) {
	t.Helper()
	for _, i := range which {
		require.NoError(t, n.procs[i].Process.Signal(syscall.SIGTERM))
	}
	for _, i := range which {
		require.NoError(t, <-n.exit[i], n.words[i].String())
	}
}

func (n *nodes) open(t *testing.T) *durablestream.DurableStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, err := durablestream.Open(ctx, durablestream.Config{Servers: n.servers})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// leader is the node that leads the Log.
func (n *nodes) leader(t *testing.T, d *durablestream.DurableStream) int {
	t.Helper()
	var st client.State
	require.Eventually(t, func() bool {
		var err error
		st, err = d.Admin().State(t.Context())
		return err == nil && st.Leader != ""
	}, 20*time.Second, 10*time.Millisecond)
	return int(st.Leader[1] - '1')
}

// load appends from several goroutines until stopped, and keeps what was
// acknowledged.
type load struct {
	quit chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	acks    []event.Recorded
	longest time.Duration // without an acknowledgement to a goroutine
	errs    []error
}

func startLoad(t *testing.T, d *durablestream.DurableStream, goroutines int) *load {
	l := &load{quit: make(chan struct{})}
	for g := range goroutines {
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.quit:
					return
				default:
				}
				if err := wait.For(t.Context(), longtest.Pick(5*time.Millisecond, 0)); err != nil {
					return // the pace, for which nothing is waited
				}
				begun := time.Now()
				r, err := d.Append(t.Context(), event.Event{
					Type: "task.created", StreamID: fmt.Sprintf("g%d", g), Actor: "agent/load", Payload: fmt.Appendf(nil, `{"n":%d}`, n)})
				l.mu.Lock()
				l.longest = max(l.longest, time.Since(begun))
				if err != nil {
					l.errs = append(l.errs, err)
				} else {
					l.acks = append(l.acks, r)
				}
				l.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks)
}

// forgetLongest gives the longest wait since it was last called.
func (l *load) forgetLongest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.longest
	l.longest = 0
	return longest
}

func (l *load) more(t *testing.T, n int) {
	t.Helper()
	start := l.count()
	require.Eventually(t, func() bool { return l.count() >= start+n }, 60*time.Second, time.Millisecond, "nothing is acknowledged any more")
}

func (l *load) stop() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.wg.Wait()
}

// check compares what was acknowledged with the Log: everything is there, once, and
// in each goroutine's order.
func (l *load) check(t *testing.T, d *durablestream.DurableStream) {
	t.Helper()
	require.Empty(t, l.errs)
	at, next := map[string]event.Sequence{}, map[string]int{}
	for r, err := range d.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		require.Zero(t, at[r.ID], "%s is stored twice", r.ID)
		at[r.ID] = r.Seq
		require.Equal(t, fmt.Sprintf(`{"n":%d}`, next[r.StreamID]), string(r.Payload), "order in %s at %d", r.StreamID, r.Seq)
		next[r.StreamID]++
	}
	for _, a := range l.acks {
		require.Equal(t, a.Seq, at[a.ID], "%s was acknowledged at %d", a.ID, a.Seq)
	}
	require.Len(t, at, len(l.acks), "events that nobody was told of")
}

// mirrorsEqual waits until the files of all directories hold the Log, and compares
// them byte by byte.
func (n *nodes) mirrorsEqual(t *testing.T, d *durablestream.DurableStream, which ...int) {
	t.Helper()
	var first []byte
	for _, i := range which {
		var report mirror.Report
		require.Eventually(t, func() bool {
			var err error
			report, err = mirror.Verify(t.Context(), mirror.Config{Client: d.Client(), Dir: n.dirOf(i)})
			return err == nil && report.Problem == nil
		}, 30*time.Second, 50*time.Millisecond, "the mirror of n%d: %v", i+1, &report)
		b, err := os.ReadFile(durablestream.MirrorPath(n.dirOf(i)))
		require.NoError(t, err)
		if first == nil {
			first = b
		}
		require.Equal(t, string(first), string(b))
	}
}

// Three nodes, started one by one; their leader is killed under load, comes back,
// and then all of them are stopped and started.
func TestCluster(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	n.start(t, 0)
	n.says(t, 0, "waiting for the cluster ds: 1 of 3 nodes are here (n1); a majority is needed")
	n.start(t, 1)
	n.says(t, 1, "2 of 3 nodes are here (n1, n2); they choose a leader, for which a new cluster needs all 3 once")
	n.start(t, 2)
	n.serving(t, 0, 1, 2)

	d := n.open(t)
	st, err := d.Admin().State(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, st.Config.Replicas)
	require.Len(t, st.Replicas, 3)

	// Stopped in an orderly way, the leader hands over.
	l := startLoad(t, d, 4)
	l.more(t, 200)
	old := n.leader(t, d)
	n.stop(t, old)
	l.more(t, 200)
	t.Logf("the leader was stopped: longest wait of an append %v", l.forgetLongest().Round(time.Millisecond))
	n.start(t, old)
	n.serving(t, old)
	l.forgetLongest()
	l.more(t, 200)
	victim := n.leader(t, d)
	killed := time.Now()
	require.NoError(t, n.procs[victim].Process.Kill())
	<-n.exit[victim]
	l.more(t, 200)
	t.Logf("the leader was killed: 200 appends more after %v, longest wait of an append %v",
		time.Since(killed).Round(time.Millisecond), l.forgetLongest().Round(time.Millisecond))
	l.stop()
	l.check(t, d)
	others := []int{(victim + 1) % 3, (victim + 2) % 3}
	n.mirrorsEqual(t, d, others...)

	n.start(t, victim)
	n.serving(t, victim)
	n.mirrorsEqual(t, d, 0, 1, 2)

	n.stop(t, 0, 1, 2)
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	l.check(t, n.open(t))
	again, err := d.Admin().State(t.Context())
	require.NoError(t, err)
	require.True(t, st.Created.Equal(again.Created), "the log was made again")
	n.mirrorsEqual(t, d, 0, 1, 2)
	n.stop(t, 0, 1, 2)
}

// interrupted are nodes of which the first has waited for the others, and was ended.
func interrupted(t *testing.T) *nodes {
	t.Helper()
	n := newNodes(t)
	n.start(t, 0)
	n.says(t, 0, "a majority is needed")
	n.stop(t, 0)
	return n
}

// A node that waits is ended by Ctrl-C, and leaves nothing behind that is in the way.
func TestClusterWaitInterrupted(t *testing.T) {
	t.Parallel()
	n := interrupted(t)
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	n.stop(t, 0, 1, 2)
}

// A node's store is hosted by that node alone, and a lone host's by no node.
func TestManagedStore(t *testing.T) {
	t.Parallel()
	n := interrupted(t)
	try := func(dir string, args ...string) string {
		words := &syncBuffer{}
		cmd := as(t, "dstream", words, nil, append([]string{"--dir", dir}, args...)...)
		require.Error(t, cmd.Run(), words.String())
		return words.String()
	}
	require.Contains(t, try(n.dirOf(0), "serve"), "belongs to the node n1 of the cluster ds: only 'dstream serve --cluster-name ds --name n1'")
	require.Contains(t, try(n.dirOf(0), "append", "task.created", "--stream", "s", "--actor", "a"), "belongs to the node n1 of the cluster ds")
	node := []string{"--cluster-listen", n.ports[3], "--routes", "nats://" + strings.Join(n.ports[3:], ",nats://")}
	require.Contains(t, try(n.dirOf(0), append(node, "serve", "--name", "n2", "--cluster-name", "ds")...), "not to n2 of ds")
	require.Contains(t, try(n.dirOf(0), append(node, "serve", "--name", "n1", "--cluster-name", "other")...), "not to n1 of other")

	lone := filepath.Join(n.dir, "lone")
	cmd := as(t, "dstream", &syncBuffer{}, nil, "--dir", lone, "append", "task.created", "--stream", "s", "--actor", "a")
	require.NoError(t, cmd.Run())
	said := try(lone, append(node, "serve", "--name", "n1", "--cluster-name", "ds")...)
	require.Contains(t, said, "was a lone host's, and cannot become a node of the cluster ds")
	require.Contains(t, said, "dstream restore --server nats://… --from "+lone)
}

// runDstream runs a command to its end.
func runDstream(t *testing.T, args ...string) (stdout, words string, err error) {
	t.Helper()
	out, errs := &syncBuffer{}, &syncBuffer{}
	cmd := as(t, "dstream", errs, nil, args...)
	cmd.Stdout = out
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// many is a file of n events.
func many(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"type":"task.created","stream_id":"many","actor":"a","payload":{"n":%d}}`+"\n", i)
	}
	path := filepath.Join(t.TempDir(), "many.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

// A local log moves to a cluster with its ids, Sequences and decisions, and is
// mirrored there by processes of its own.
func TestMoveToCluster(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	local := filepath.Join(n.dir, "local")
	must := func(args ...string) string {
		t.Helper()
		out, words, err := runDstream(t, args...)
		require.NoError(t, err, "%v: %s", args, words)
		return out
	}
	for range 3 {
		must("--dir", local, "append", "task.created", "--stream", "s", "--actor", "a")
	}
	// The first expires at once: its expiry, by the local sweeper, must be the only one
	// in the new log, too, where sweepers run while it is written back.
	for id, expires := range map[string]string{"cp_1": `,"expires_at":1`, "cp_2": ""} {
		must("--dir", local, "append", "checkpoint.requested", "--stream", "s", "--actor", "agent/a",
			"--payload", fmt.Sprintf(`{"id":%q,"decision_point":"go?","options":[{"id":"yes","label":"Yes"}],"requested_by":"agent/a"%s}`, id, expires))
	}
	must("--dir", local, "append", "--jsonl", many(t, longtest.Pick(2500, 5000))) // time enough for the sweepers to look
	must("--dir", local, "checkpoint", "reject", "cp_2", "--by", "human/b", "--reason", "no")
	was := must("--dir", local, "query")

	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	server := "--server=" + strings.Join(n.servers, ",")
	_, words, err := runDstream(t, server, "restore", "--from", filepath.Join(n.dir, "none"))
	require.Error(t, err, words)
	must(server, "restore", "--from", local)
	require.Equal(t, was, must(server, "query"))
	_, words, err = runDstream(t, server, "restore", "--from", local)
	require.Error(t, err)
	require.Contains(t, words, "the Log is not empty")
	for id, stands := range map[string]string{"cp_1": "expired", "cp_2": "rejected"} {
		_, words, err = runDstream(t, server, "checkpoint", "approve", id, "--by", "human/c", "--option", "yes")
		require.Error(t, err)
		require.Contains(t, words, stands)
	}

	// Two mirrors in directories of their own write the same; a third one stands by.
	var runs []*exec.Cmd
	var said []*syncBuffer
	run := func(dir string) {
		said = append(said, &syncBuffer{})
		cmd := as(t, "dstream", said[len(said)-1], nil, "--dir", dir, server, "mirror", "run", "--sweeper")
		require.NoError(t, cmd.Start())
		runs = append(runs, cmd)
	}
	saysSoon := func(i int, what string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(said[i].String(), what) }, 20*time.Second, 5*time.Millisecond, "it says\n%v", said[i])
	}
	m1, m2 := filepath.Join(n.dir, "m1"), filepath.Join(n.dir, "m2")
	run(m1)
	run(m2)
	saysSoon(0, "mirroring the log of")
	saysSoon(1, "mirroring the log of")
	run(m1)
	saysSoon(2, "another process writes the mirror in "+m1)
	_, words, err = runDstream(t, "--dir", n.dirOf(0), server, "mirror", "run")
	require.Error(t, err)
	require.Contains(t, words, "has a store, whose own host writes the mirror there")

	must(server, "append", "task.completed", "--stream", "s", "--actor", "a")
	n.stop(t, 0, 1, 2) // all of them: the mirrors wait
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	must(server, "append", "task.completed", "--stream", "s2", "--actor", "a")
	for i, cmd := range runs {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait(), said[i].String())
	}
	saysSoon(0, "stopped: the mirror has everything up to position")
	one, err := os.ReadFile(durablestream.MirrorPath(m1))
	require.NoError(t, err)
	two, err := os.ReadFile(durablestream.MirrorPath(m2))
	require.NoError(t, err)
	require.Equal(t, string(one), string(two))
	require.Contains(t, string(one), `"stream_id":"s2"`)
	must(server, "--dir", m1, "mirror", "verify")
	n.stop(t, 0, 1, 2)
}

// Beside a local host, which writes the mirror itself, mirror run stands by.
func TestMirrorRunBesideHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".opencode")
	words := &syncBuffer{}
	host := as(t, "dstream", words, nil, "--dir", dir, "serve")
	require.NoError(t, host.Start())
	require.Eventually(t, func() bool { return strings.Contains(words.String(), "hosts the log of") }, 10*time.Second, 5*time.Millisecond)
	said := &syncBuffer{}
	cmd := as(t, "dstream", said, nil, "--dir", dir, "mirror", "run")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		return strings.Contains(said.String(), fmt.Sprintf("the host, process %d, writes the mirror in %s itself", host.Process.Pid, dir))
	}, 10*time.Second, 5*time.Millisecond, "%v", said)
	for _, c := range []*exec.Cmd{cmd, host} {
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		require.NoError(t, c.Wait(), said.String())
	}
}
