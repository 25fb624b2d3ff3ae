package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"durablestream"
	"durablestream/client"
	"durablestream/internal/freeport"
)

// System is what is tested: real processes of the project's own program. It is one
// host with another one that stands by, or three nodes of a cluster.
type System struct {
	// Nodes are the processes.
	Nodes []*Node
	// Clustered tells three nodes from a host and its stand-by.
	Clustered bool

	bin     string
	network wires // of a cluster
	servers []string
	nkey    string      // file with the seed of the clients' key; empty: the nodes have no keys
	disks   []*disk     // whose power can be cut
	noDisks string      // why there are none
	clock   *falseClock // that the nodes and this process have; nil: the true one
}

// wires are what nodes talk over.
type wires interface {
	sever(...way)
	mend() error
	end()
}

// Node is one `dstream serve`.
type Node struct {
	Name string
	// Dir is its --dir: its own in a cluster, a shared one otherwise.
	Dir string
	// Env is added to the process's environment.
	Env   []string
	enter []string // what its command line begins with
	args  []string
	bin   string

	mu    sync.Mutex // guards all below
	proc  *exec.Cmd
	gone  chan struct{} // closed when proc has ended
	words bytes.Buffer
}

// Build builds the program into dir and gives its path.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	bin := filepath.Join(dir, "dstream")
	if overlay := os.Getenv(overlayEnv); overlay != "" {
		flags = append(flags, "-overlay", overlay)
	}
	args := append(append([]string{"build"}, flags...), "-o", bin, "durablestream/cmd/dstream")
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("faults: building the program: %w: %s", err, out)
	}
	return bin, nil
}

// NewHost gives a host and a stand-by on one directory, with flags for serve. They
// are started by Start.
func NewHost(bin, dir string, flags ...string) *System {
	s := &System{bin: bin}
	for _, name := range []string{"host", "stand-by"} {
		s.Nodes = append(s.Nodes, &Node{Name: name, Dir: dir, bin: bin, args: append([]string{"--dir", dir, "serve"}, flags...)})
	}
	return s
}

// NewCluster gives three nodes, each in its directory, with wires that can be cut.
func NewCluster(bin string, dirs [3]string) (*System, error) {
	wires := newNetwork()
	s := &System{bin: bin, Clustered: true, network: wires}
	var addrs []string
	for range 2 * len(dirs) { // all are taken before any is freed, so that they differ
		l, err := freeport.Listen()
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:errcheck // it only kept the port
		addrs = append(addrs, l.Addr().String())
	}
	var fronts, routes []string
	for i := range dirs {
		front, err := wires.front(fmt.Sprintf("n%d", i+1), addrs[i])
		if err != nil {
			return nil, err
		}
		fronts, routes = append(fronts, front), append(routes, "nats://"+front)
	}
	for i, dir := range dirs {
		name := fmt.Sprintf("n%d", i+1)
		s.servers = append(s.servers, "nats://"+addrs[3+i])
		s.Nodes = append(s.Nodes, &Node{Name: name, Dir: dir, bin: bin, args: []string{
			"--dir", dir, "serve", "--name", name, "--cluster-name", "faults", "--replicas", "3",
			"--cluster-listen", addrs[i], "--cluster-advertise", fronts[i],
			"--routes", strings.Join(routes, ","), "--listen", addrs[3+i],
		}})
	}
	return s, nil
}

// UseDisks tells on which disks the nodes' directories are, or why on none.
func (s *System) UseDisks(disks []*disk, why error) {
	s.disks = disks
	if why != nil {
		s.noDisks = why.Error()
	}
}

// Client opens the log as an agent that never hosts.
func (s *System) Client(ctx context.Context) (*client.Client, func(), error) {
	cfg := durablestream.Config{Dir: s.Nodes[0].Dir, JoinOnly: true}
	if s.Clustered {
		cfg = durablestream.Config{Servers: s.servers, NKey: s.nkey}
	}
	d, err := durablestream.Open(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return d.Client(), func() { _ = d.Close() }, nil
}

// Start starts every node that does not run.
func (s *System) Start() error {
	var err error
	for _, n := range s.Nodes {
		err = errors.Join(err, n.Start())
	}
	return err
}

// Stop ends all nodes in an orderly way.
func (s *System) Stop() error {
	var err error
	for _, n := range s.Nodes {
		n.Signal(syscall.SIGCONT)
		n.Signal(syscall.SIGTERM)
	}
	for _, n := range s.Nodes {
		if !n.ended(30 * time.Second) {
			n.Kill()
			err = errors.Join(err, fmt.Errorf("faults: %s does not end on SIGTERM; it said:\n%s", n.Name, n.Words()))
		}
	}
	if s.network != nil {
		s.network.end()
	}
	return err
}

// Words is what all nodes said.
func (s *System) Words() string {
	var b strings.Builder
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "== %s\n%s\n", n.Name, n.Words())
	}
	return b.String()
}

// Start starts a node, unless it runs.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return nil
	}
	line := slices.Concat(n.enter, []string{n.bin}, n.args)
	n.proc = exec.Command(line[0], line[1:]...)
	n.proc.Env = append(os.Environ(), n.Env...)
	n.proc.Stderr = &lockedWriter{n}
	n.gone = make(chan struct{})
	if err := n.proc.Start(); err != nil {
		return fmt.Errorf("faults: %s: %w", n.Name, err)
	}
	go func(p *exec.Cmd, gone chan struct{}) {
		_ = p.Wait() // how it ended is in what it said
		close(gone)
	}(n.proc, n.gone)
	return nil
}

// running tells whether the process is there; n.mu is held.
func (n *Node) running() bool {
	if n.gone == nil {
		return false
	}
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// Running tells whether the node's process is there.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running()
}

// PID of the process; 0 if there is none.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return 0
	}
	return n.proc.Process.Pid
}

// Signal sends a signal to the node, if it runs.
func (n *Node) Signal(sig syscall.Signal) {
	if pid := n.PID(); pid != 0 {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
}

// Kill ends the node at once and waits until it has gone.
func (n *Node) Kill() {
	n.Signal(syscall.SIGKILL)
	n.ended(time.Minute)
}

// stopped waits until no thread of the process runs any more, or the process has
// ended; a thread that is in the midst of a write or an fsync comes no further than its
// end. That is why it looks at the threads: the system would tell of the stop only
// when those, too, are through, and a power cut has to come before.
func (n *Node) stopped() {
	n.mu.Lock()
	gone := n.gone
	n.mu.Unlock()
	pid := n.PID()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for pid != 0 {
		running := 0
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			after := stat[bytes.LastIndexByte(stat, ')')+1:]
			if err == nil && len(after) > 1 && !bytes.ContainsRune([]byte("TtD"), rune(after[1])) {
				running++
			}
		}
		if running == 0 {
			return
		}
		select {
		case <-gone:
			return
		case <-look.C:
		}
	}
}

func (n *Node) ended(within time.Duration) bool {
	n.mu.Lock()
	gone := n.gone
	n.mu.Unlock()
	if gone == nil {
		return true
	}
	select {
	case <-gone:
		return true
	case <-time.After(within):
		return false
	}
}

// Words is what the node said on its standard error, in all its lives.
func (n *Node) Words() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.words.String()
}

// Command runs one dstream command on the node's directory and gives what it
// printed, and its exit status.
func (n *Node) Command(ctx context.Context, args ...string) (string, int) {
	cmd := exec.CommandContext(ctx, n.bin, append([]string{"--dir", n.Dir}, args...)...)
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		return err.Error(), -1
	}
	return string(out), 0
}

type lockedWriter struct{ n *Node }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.words.Write(p)
}
