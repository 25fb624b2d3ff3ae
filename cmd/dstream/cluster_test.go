package main

import (
	"context"
	"fmt"
	"net"
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
}

func newNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{dir: t.TempDir()}
	for range 6 { // all are taken before any is freed, so that they differ
		l, err := net.Listen("tcp", "127.0.0.1:0")
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
		cmd := as(t, "dstream", n.words[i], nil, "--dir", n.dirOf(i), "serve", "--name", fmt.Sprintf("n%d", i+1),
			"--cluster-name", "ds", "--cluster-listen", n.ports[3+i],
			"--routes", "nats://"+strings.Join(n.ports[3:], ",nats://"), "--listen", n.ports[i])
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
		st, err = d.State(t.Context())
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
			report, err = mirror.Verify(t.Context(), mirror.Config{Client: d.Client, Dir: n.dirOf(i)})
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
	st, err := d.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, st.Config.Replicas)
	require.Len(t, st.Replicas, 3)

	l := startLoad(t, d, 4)
	l.more(t, 200)
	victim := n.leader(t, d)
	killed := time.Now()
	require.NoError(t, n.procs[victim].Process.Kill())
	<-n.exit[victim]
	l.more(t, 200)
	l.mu.Lock()
	t.Logf("the leader was killed: 200 appends more after %v, longest wait of an append %v", time.Since(killed).Round(time.Millisecond), l.longest.Round(time.Millisecond))
	l.mu.Unlock()
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
	again, err := d.State(t.Context())
	require.NoError(t, err)
	require.True(t, st.Created.Equal(again.Created), "the log was made again")
	n.mirrorsEqual(t, d, 0, 1, 2)
	n.stop(t, 0, 1, 2)
}

// A node that waits is ended by Ctrl-C, and leaves nothing behind that is in the way.
func TestClusterWaitInterrupted(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	n.start(t, 0)
	n.says(t, 0, "a majority is needed")
	n.stop(t, 0)
	n.start(t, 0, 1, 2)
	n.serving(t, 0, 1, 2)
	n.stop(t, 0, 1, 2)
}

// A node's store is hosted by that node alone, and a lone host's by no node.
func TestManagedStore(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	n.start(t, 0)
	n.says(t, 0, "a majority is needed")
	n.stop(t, 0)
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
