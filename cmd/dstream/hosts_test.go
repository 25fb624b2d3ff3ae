package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
)

// contender wants to host: it opens the log, tells when it begins to host, and
// appends all the while, collecting garbage as hard as it can, since a lock whose
// file the collector closes is a lock that is lost. It ends with its standard input.
func contender() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: os.Getenv("DSTREAM_TEST_DIR")})
	if err != nil {
		fail(err)
	}
	var tell sync.Mutex
	say := func(what string) {
		tell.Lock()
		defer tell.Unlock()
		fmt.Println(what)
	}
	say("open")
	go func() { <-d.Admin().Hosted(); say("hosts") }()
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	for n := 0; ; n++ {
		select {
		case <-ended:
			if err := d.Close(); err != nil {
				fail(err)
			}
			os.Exit(0)
		default:
		}
		runtime.GC()
		if _, err := d.Append(ctx, event.Event{Type: "task.created", StreamID: fmt.Sprint("p", os.Getpid()), Actor: "agent/contender",
			Payload: fmt.Appendf(nil, `{"n":%d}`, n)}); err != nil {
			fail(err)
		}
	}
}

// contenders are processes that all want to host one log.
type contenders struct {
	t     *testing.T
	dir   string
	words *syncBuffer

	mu    sync.Mutex // guards all below
	procs map[int]*contenderProc
	open  int
}

type contenderProc struct {
	cmd   *exec.Cmd
	stdin io.Closer
	hosts bool
}

func newContenders(t *testing.T) *contenders {
	return &contenders{t: t, dir: filepath.Join(t.TempDir(), ".opencode"), words: &syncBuffer{}, procs: map[int]*contenderProc{}}
}

func (c *contenders) start() {
	c.t.Helper()
	cmd := as(c.t, "contender", c.words, []string{"DSTREAM_TEST_DIR=" + c.dir})
	in, err := cmd.StdinPipe()
	require.NoError(c.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	p := &contenderProc{cmd: cmd, stdin: in}
	c.mu.Lock()
	c.procs[cmd.Process.Pid] = p
	c.mu.Unlock()
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.mu.Lock()
			switch lines.Text() {
			case "open":
				c.open++
			case "hosts":
				p.hosts = true
			}
			c.mu.Unlock()
		}
	}()
}

// hosts are the running processes that say that they host.
func (c *contenders) hosts() (pids []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid, p := range c.procs {
		if p.hosts {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lives demands that there is one host, that it is the only one that has the store's
// files open for writing, and that appends are acknowledged. It gives the host.
func (c *contenders) lives() int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	d, err := durablestream.Open(ctx, durablestream.Config{Dir: c.dir, JoinOnly: true})
	require.NoError(c.t, err, c.words)
	defer d.Close()
	_, err = d.Append(ctx, event.Event{Type: "task.created", StreamID: "judge", Actor: "judge"})
	require.NoError(c.t, err, c.words)
	s, err := d.Admin().HostStatus(ctx)
	require.NoError(c.t, err)
	require.Eventually(c.t, func() bool { return len(c.hosts()) > 0 }, 10*time.Second, time.Millisecond)
	require.Equal(c.t, []int{s.PID}, c.hosts(), "who hosts")
	require.Equal(c.t, []int{s.PID}, c.writers(), "who has the store open")
	return s.PID
}

// writers are the processes of this test that have files of the store open for
// writing, as the kernel tells it.
func (c *contenders) writers() (pids []int) {
	c.t.Helper()
	store := filepath.Join(c.dir, durablestream.HostDir, broker.StoreDir) + "/"
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid := range c.procs {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if path, err := os.Readlink(fd); err == nil && strings.HasPrefix(path, store) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func (c *contenders) kill(pid int, sig syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, syscall.Kill(pid, sig))
	if sig != syscall.SIGKILL {
		return
	}
	c.mu.Lock()
	p := c.procs[pid]
	delete(c.procs, pid)
	c.mu.Unlock()
	_ = p.cmd.Wait()
}

// end ends all of them in order, and checks what they wrote.
func (c *contenders) end() {
	c.t.Helper()
	c.mu.Lock()
	procs := c.procs
	c.procs = map[int]*contenderProc{}
	c.mu.Unlock()
	for _, p := range procs {
		require.NoError(c.t, p.stdin.Close())
	}
	for _, p := range procs {
		require.NoError(c.t, p.cmd.Wait(), "%s", c.words)
	}
	d, err := durablestream.Open(c.t.Context(), durablestream.Config{Dir: c.dir})
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, d.Close()) }()
	next := map[string]int{}
	for r, err := range d.Query(c.t.Context(), event.Filter{}) {
		require.NoError(c.t, err)
		if r.StreamID == "judge" {
			continue
		}
		var p struct{ N int }
		require.NoError(c.t, json.Unmarshal(r.Payload, &p))
		require.Equal(c.t, next[r.StreamID], p.N, "at %d of %s", r.Seq, r.StreamID)
		next[r.StreamID]++
	}
	s, err := d.Admin().State(c.t.Context())
	require.NoError(c.t, err)
	require.Zero(c.t, s.Missing)
	require.EqualValues(c.t, s.Last, s.Messages)
}

// TestOneHost races twenty processes for one store, and does to the winner what
// could make another one think that it has gone.
func TestOneHost(t *testing.T) {
	const racers = 20
	c := newContenders(t)
	for range racers {
		c.start()
	}
	require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.open == racers }, 60*time.Second, 5*time.Millisecond, "%s", c.words)
	host := c.lives()
	hostDir := filepath.Join(c.dir, durablestream.HostDir)
	file := broker.AddressPath(hostDir)

	// Its address is removed: nobody takes its place, and it puts it back.
	require.NoError(t, os.Remove(file))
	require.Equal(t, host, c.lives())

	// Somebody else's address, and one that is none.
	a, err := address.Read(file)
	require.NoError(t, err)
	a.PID, a.URL = 1, "nats://127.0.0.1:1"
	require.NoError(t, address.Write(file, a))
	require.Equal(t, host, c.lives())
	require.NoError(t, os.WriteFile(file, []byte("junk"), 0o600))
	require.Equal(t, host, c.lives())

	// The lock file is removed as well: a new one would be another lock.
	require.NoError(t, os.Remove(filepath.Join(hostDir, broker.LockFile)))
	require.NoError(t, os.Remove(file))
	_, err = broker.Start(t.Context(), broker.Config{Dir: hostDir})
	var locked *broker.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, host, c.lives())

	// It is stopped: whoever waits is told so, nobody takes over, and it goes on.
	c.kill(host, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	_, err = durablestream.Open(ctx, durablestream.Config{Dir: c.dir})
	cancel()
	var stopped *durablestream.StoppedError
	require.ErrorAs(t, err, &stopped)
	require.Equal(t, host, stopped.PID)
	require.ErrorContains(t, err, fmt.Sprintf("kill -CONT %d", host))
	require.Equal(t, []int{host}, c.writers())
	c.kill(host, syscall.SIGCONT)
	require.Equal(t, host, c.lives())

	// The control: when it is killed, another one does take over.
	c.kill(host, syscall.SIGKILL)
	require.NotEqual(t, host, c.lives())
	c.end()
}
