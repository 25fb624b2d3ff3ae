package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
)

// beforeEnv names the program of an earlier revision. `make upgrade` builds it.
const beforeEnv = "DSTREAM_BEFORE"

// upgrade is a system whose processes are replaced one by one, while clients use it, by
// those of another revision, and then back.
type upgrade struct {
	*testing.T
	s             *System
	mirror        *Node // of a cluster: a `mirror run` of its own
	before, after string
	flags         []string // of an operator's commands
	asAgent       []string // of an agent's commands
	asAdmin       []string // of an admin's commands

	history *History
	readers []*reader
	rounds  int      // of load
	known   []string // ids that commands have stored
	single  int      // of them, in the stream "single"
}

// TestUpgrade demands that a log that an earlier revision made is continued by this one
// without a pause, with versions mixed in between, and the other way round: nothing that
// was acknowledged is lost, every copy and every mirror is whole, and what was open or
// decided is so still.
func TestUpgrade(t *testing.T) {
	before := os.Getenv(beforeEnv)
	if before == "" {
		t.Skipf("skipped: %s names no program of an earlier revision: run `make upgrade`", beforeEnv)
	}
	after := program(t)
	for _, system := range []struct {
		name string
		of   func(*upgrade)
	}{
		{"one host", (*upgrade).host}, {"three nodes", (*upgrade).nodes}, {"three nodes with keys", (*upgrade).nodesWithKeys},
	} {
		t.Run(system.name, func(t *testing.T) {
			u := &upgrade{T: t, before: before, after: after, history: NewHistory()}
			system.of(u)
			u.run()
		})
	}
}

func (u *upgrade) host() {
	u.s = NewHost(u.before, filepath.Join(u.TempDir(), ".opencode"))
}

func (u *upgrade) nodes() {
	dir := u.TempDir()
	s, err := NewCluster(u.before, [3]string{filepath.Join(dir, "n1"), filepath.Join(dir, "n2"), filepath.Join(dir, "n3")})
	require.NoError(u, err)
	u.s = s
	servers := strings.Join(s.servers, ",")
	u.flags = []string{"--server", servers}
	u.asAgent, u.asAdmin = u.flags, u.flags
	u.mirror = &Node{Name: "mirror", Dir: filepath.Join(dir, "mirror"), bin: u.before}
	u.mirror.args = []string{"--dir", u.mirror.Dir, "--server", servers, "mirror", "run"}
	require.NoError(u, os.Mkdir(u.mirror.Dir, 0o700))
}

func (u *upgrade) nodesWithKeys() {
	u.nodes()
	keys := u.TempDir()
	list := filepath.Join(keys, "keys.json")
	seed := func(role string) string { return filepath.Join(keys, role+".nk") }
	for _, role := range []string{"agent", "operator", "admin"} {
		out, code := u.mirror.Command(u.Context(), "keys", "make", role, "--role", role, "--keys", list, "--out", seed(role))
		require.Zero(u, code, out)
	}
	for _, n := range u.s.Nodes {
		n.args = append(n.args, "--keys", list)
	}
	u.mirror.args = append([]string{"--nkey", seed("agent")}, u.mirror.args...)
	u.asAgent = append([]string{"--nkey", seed("agent")}, u.flags...)
	u.asAdmin = append([]string{"--nkey", seed("admin")}, u.flags...)
	u.flags = append([]string{"--nkey", seed("operator")}, u.flags...)
	u.s.nkey = seed("operator")
}

// run fills the log by the earlier revision, and goes forth and back.
func (u *upgrade) run() {
	ctx, cancel := context.WithTimeout(u.Context(), 10*time.Minute)
	defer cancel()
	u.Cleanup(u.end)
	u.start(ctx, u.s.Nodes...)
	if u.mirror != nil {
		require.NoError(u, u.mirror.Start())
	}
	u.fill(ctx)
	was := u.open(ctx, u.before, u.s.Nodes[0])
	reading, endReaders := context.WithCancel(ctx)
	defer endReaders()
	var err error
	u.readers, err = follow(reading, u.s)
	require.NoError(u, err)

	u.roll(ctx, "this revision", u.after)
	u.check(ctx, u.after)
	require.Equal(u, was, u.open(ctx, u.after, u.s.Nodes[0]))

	u.roll(ctx, "the one before", u.before)
	u.check(ctx, u.before)
	require.Equal(u, was, u.open(ctx, u.before, u.s.Nodes[0]))

	u.together(ctx, u.after)
	u.check(ctx, u.after)
	require.Equal(u, was, u.open(ctx, u.after, u.s.Nodes[0]))
	u.together(ctx, u.before)
	rep := u.check(ctx, u.before)
	require.Equal(u, was, u.open(ctx, u.before, u.s.Nodes[0]))

	endReaders()
	if u.s.Clustered {
		require.NoError(u, u.s.caughtUp(ctx))
	}
	require.NoError(u, u.s.Stop())
	if u.s.Clustered {
		require.True(u, same(u.T, u.s), "the nodes hold different copies of the log")
	} else {
		u.restored(ctx, u.after, u.before)
		u.restored(ctx, u.before, u.after)
	}
	u.Logf("%d operations, %d acknowledged, %d without an outcome, longest wait %v; %d events in %d positions; lost %d, twice %d, reordered %d, torn %d, not linearizable %d, wrong subscribers %d",
		rep.Operations, rep.Acknowledged, rep.Unknown, rep.LongestWait.Round(time.Millisecond), rep.Events, rep.Position,
		rep.Lost, rep.Twice, rep.Reordered, rep.Torn, rep.NotLinearizable, rep.Subscribers)
}

// restored demands that a log that one program restores from the mirror is read by another.
// Its leases are void.
func (u *upgrade) restored(ctx context.Context, by, reader string) {
	mirror := u.s.Nodes[0]
	n := &Node{Name: "restored", Dir: filepath.Join(u.TempDir(), ".opencode")}
	u.command(ctx, by, n, nil, "restore", "--from", mirror.Dir)
	require.Equal(u, u.command(ctx, by, mirror, nil, "query"), u.command(ctx, reader, n, nil, "query"))
	u.command(ctx, reader, n, nil, "mirror", "verify")
	require.Equal(u, u.questions(ctx, reader, mirror), u.questions(ctx, by, n))
}

// end ends what still runs.
func (u *upgrade) end() {
	if u.mirror != nil {
		u.mirror.Kill()
	}
	_ = u.s.Stop() // it has ended, unless the test failed before
	if u.Failed() {
		u.Log(u.s.Words())
	}
}

// command runs a command of a program on a node, as who flags say, and demands that it
// succeeds.
func (u *upgrade) command(ctx context.Context, bin string, n *Node, flags []string, args ...string) string {
	u.Helper()
	one := &Node{Name: n.Name, Dir: n.Dir, bin: bin}
	out, code := one.Command(ctx, append(append([]string{}, flags...), args...)...)
	require.Zero(u, code, "%s %v: %s", filepath.Base(bin), args, out)
	return out
}

// fill appends what a log holds: events, a batch, questions that are open and decided, and
// work that is claimed and done.
func (u *upgrade) fill(ctx context.Context) {
	n := u.s.Nodes[0]
	var lines strings.Builder
	for i := range 500 {
		u.known = append(u.known, fmt.Sprintf("before-%d", i))
		fmt.Fprintf(&lines, "{\"id\":\"before-%d\",\"type\":\"task.created\",\"stream_id\":\"s%d\",\"actor\":\"agent/a\",\"payload\":{\"n\":%d,\"pad\":%q}}\n", i, i%3, i, strings.Repeat("x", 300))
	}
	file := filepath.Join(u.TempDir(), "events.jsonl")
	require.NoError(u, os.WriteFile(file, []byte(lines.String()), 0o600))
	u.command(ctx, u.before, n, u.asAgent, "append", "--jsonl", file)
	for _, id := range []string{"open", "approved", "rejected"} {
		u.command(ctx, u.before, n, u.asAgent, "checkpoint", "request", "--id", id, "--stream", "s0", "--actor", "agent/a", "--decision-point", "?", "--option", "yes")
	}
	u.command(ctx, u.before, n, u.flags, "checkpoint", "approve", "approved", "--by", "alice", "--option", "yes")
	u.command(ctx, u.before, n, u.flags, "checkpoint", "reject", "rejected", "--by", "alice", "--reason", "no")
	for _, id := range []string{"created", "claimed"} {
		u.command(ctx, u.before, n, u.asAgent, "intent", "create", "--id", id, "--stream", "s1", "--agent", "agent/b", "--description", "d", "--prompt", "p")
	}
	u.command(ctx, u.before, n, u.asAgent, "intent", "claim", "claimed", "--by", "agent/b", "--lease", "24h")
}

// open is what a program tells of the questions and the work that fill has made.
func (u *upgrade) open(ctx context.Context, bin string, n *Node) string {
	u.Helper()
	all := u.questions(ctx, bin, n)
	for _, id := range []string{"created", "claimed"} {
		all += u.fields(u.command(ctx, bin, n, u.flags, "intent", "show", id, "--json"))
	}
	return all
}

// questions is what a program tells of those that fill has asked.
func (u *upgrade) questions(ctx context.Context, bin string, n *Node) (all string) {
	u.Helper()
	for _, id := range []string{"open", "approved", "rejected"} {
		all += u.fields(u.command(ctx, bin, n, u.flags, "checkpoint", "show", id, "--json"))
	}
	return all
}

// fields are those of an answer in JSON, in the order of their names.
func (u *upgrade) fields(answer string) string {
	u.Helper()
	var fields map[string]any
	require.NoError(u, json.Unmarshal([]byte(answer[strings.Index(answer, "{"):]), &fields), answer)
	delete(fields, "age_ms")
	line, err := json.Marshal(fields)
	require.NoError(u, err)
	return string(line) + "\n"
}

// roll replaces one process after the other under load, the leader last, as
// docs/operations.md says.
func (u *upgrade) roll(ctx context.Context, name, bin string) {
	load, stop := u.load(ctx)
	defer stop()
	for _, n := range u.leaderLast(ctx) {
		u.replace(ctx, n, bin)
		u.more(ctx, 200)
		load.NextEpoch()
		u.Logf("%s runs %s; %d operations", n.Name, name, len(u.history.Ops()))
	}
	if u.mirror != nil {
		u.mirror.Signal(syscall.SIGTERM)
		require.True(u, u.mirror.ended(30*time.Second), u.mirror.Words())
		u.mirror.bin = bin
		require.NoError(u, u.mirror.Start())
	}
	require.NoError(u, alive(ctx, u.history))
}

// replace ends a process and starts another program in its place, and waits until that one
// does its part. Clients of both revisions use the log then.
func (u *upgrade) replace(ctx context.Context, n *Node, bin string) {
	n.Signal(syscall.SIGTERM)
	require.True(u, n.ended(30*time.Second), n.Words())
	n.bin = bin
	u.start(ctx, n)
	require.NoError(u, alive(ctx, u.history), "%v", stringer(u.s.Words))
	for _, client := range []string{u.before, u.after} {
		id := fmt.Sprintf("single-%d", u.single)
		u.command(ctx, client, n, u.asAgent, "append", "task.created", "--id", id, "--stream", "single", "--actor", "agent/a")
		u.known = append(u.known, id)
		u.single++
		got := u.command(ctx, client, n, u.asAgent, "query", "--stream", "single")
		require.Equal(u, u.single, strings.Count(got, `"stream_id":"single"`), got)
	}
}

// together kills all processes at once, and starts another program in their place: it opens
// what a crash of the other one left.
func (u *upgrade) together(ctx context.Context, bin string) {
	for _, n := range u.s.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for _, n := range u.s.Nodes {
		require.True(u, n.ended(30*time.Second), n.Words())
		n.bin = bin
	}
	u.start(ctx, u.s.Nodes...)
	_, stop := u.load(ctx)
	defer stop()
	u.more(ctx, 200)
}

// more waits until clients have done n more operations.
func (u *upgrade) more(ctx context.Context, n int) {
	for was := len(u.history.Ops()); len(u.history.Ops()) < was+n; pause(ctx, 5*time.Millisecond) {
		require.NoError(u, alive(ctx, u.history), "%v", stringer(u.s.Words))
	}
}

// load lets clients use the log until stop, which waits for them.
func (u *upgrade) load(ctx context.Context) (l *Load, stop func()) {
	l = &Load{Open: u.s.Client, Seed: uint64(u.rounds), Clients: 4, Pace: 4 * time.Millisecond, History: u.history, First: u.rounds * 100_000}
	for range u.rounds * 10 {
		l.NextEpoch() // no key of a load before
	}
	u.rounds++
	require.NoError(u, l.Enter(ctx))
	loading, cancel := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() { defer close(loaded); l.Run(loading) }()
	return l, func() { cancel(); <-loaded }
}

// leaderLast are the processes, the one that leads last.
func (u *upgrade) leaderLast(ctx context.Context) (nodes []*Node) {
	c, end, err := u.s.Client(ctx)
	require.NoError(u, err)
	defer end()
	st, err := c.Admin().State(ctx)
	require.NoError(u, err)
	var last []*Node
	for _, n := range u.s.Nodes {
		if n.Name == st.Leader || (!u.s.Clustered && n.Name == "host") {
			last = append(last, n)
			continue
		}
		nodes = append(nodes, n)
	}
	return append(nodes, last...)
}

// start starts processes, and waits until each does its part.
func (u *upgrade) start(ctx context.Context, nodes ...*Node) {
	u.Helper()
	said := map[*Node]int{}
	for _, n := range nodes {
		said[n] = len(n.Words())
		require.NoError(u, n.Start())
	}
	for _, n := range nodes { // a stand-by says it of its host
		require.Eventually(u, func() bool { return strings.Contains(n.Words()[said[n]:], "hosts the log of") },
			quiet, 10*time.Millisecond, "%v", stringer(u.s.Words))
	}
	require.NoError(u, u.settled(ctx), "%v", stringer(u.s.Words))
}

// settled waits until each node has what the leader has.
func (u *upgrade) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	c, end, err := u.s.Client(ctx)
	if err != nil {
		return err
	}
	defer end()
	var last client.State
	for {
		st, err := c.Admin().State(ctx)
		current := 0
		for _, r := range st.Replicas {
			if r.Current && !r.Offline {
				current++
			}
		}
		if err == nil && (!u.s.Clustered || current == len(u.s.Nodes)) {
			return nil
		}
		if err == nil {
			last = st
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not every node is current within %v: %+v %w", quiet, last.Replicas, err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// check demands that everything acknowledged is there, in the log and in every mirror, and
// that a program finds nothing wrong.
func (u *upgrade) check(ctx context.Context, bin string) *Report {
	u.Helper()
	rep := &Report{Faults: map[string]int{}}
	require.NoError(u, rep.check(ctx, u.s, u.history, u.readers))
	c, end, err := u.s.Client(ctx)
	require.NoError(u, err)
	defer end()
	all := append([]*Node{}, u.s.Nodes...)
	if u.mirror != nil {
		all = append(all, u.mirror)
		require.NoError(u, rep.mirror(ctx, c, u.mirror))
	}
	require.Empty(u, rep.Problems)
	log, err := ReadLog(ctx, c)
	require.NoError(u, err)
	stored := map[string]int{}
	for _, m := range log {
		stored[m.Event.ID]++
	}
	for _, id := range u.known {
		require.Equal(u, 1, stored[id], id)
	}
	for _, n := range all {
		u.command(ctx, bin, n, u.asAgent, "mirror", "verify")
	}
	for _, n := range u.s.Nodes {
		one := &Node{Name: n.Name, Dir: n.Dir, bin: bin}
		require.Eventually(u, func() bool {
			out, code := one.Command(ctx, append(append([]string{}, u.asAdmin...), "doctor")...)
			if code != 0 {
				u.Logf("doctor on %s: %s", n.Name, out)
			}
			return code == 0
		}, 2*time.Minute, 2*time.Second)
	}
	return rep
}
