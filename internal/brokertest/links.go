package brokertest

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// Links are what a cluster's nodes reach each other over: all that they say to each
// other passes through, until it is told to be late or to stay.
type Links struct {
	running sync.WaitGroup

	mu     sync.Mutex // guards what is below
	change *sync.Cond // of held and closed
	late   map[pair]time.Duration
	held   map[pair]bool
	conns  map[net.Conn]pair
	closed bool
}

// pair is two nodes, the lower number first.
type pair [2]int

func pairOf(a, b int) pair { return pair{min(a, b), max(a, b)} }

// StartLinkedCluster is StartCluster with links that a test can slow and cut.
func StartLinkedCluster(t testing.TB) (*Cluster, *Links) {
	t.Helper()
	l := &Links{late: map[pair]time.Duration{}, held: map[pair]bool{}, conns: map[net.Conn]pair{}}
	l.change = sync.NewCond(&l.mu)
	var listeners []net.Listener
	t.Cleanup(func() { // after the nodes have ended
		for _, li := range listeners {
			li.Close()
		}
		l.mu.Lock()
		l.closed = true
		l.cutAll(func(pair) bool { return true })
		l.mu.Unlock()
		l.running.Wait()
	})
	c := startCluster(t, func(i int, o *server.Options, ports []int) {
		o.Cluster.PoolSize = -1
		// What the others are told of this node leads nowhere: they have their links.
		o.Cluster.Advertise = "127.0.0.1:1"
		o.Routes = nil
		for j, port := range ports {
			if j == i {
				continue
			}
			li, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			listeners = append(listeners, li)
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: li.Addr().String()})
			l.running.Go(func() { l.accept(li, pairOf(i, j), fmt.Sprintf("127.0.0.1:%d", port)) })
		}
	})
	return c, l
}

// Delay makes what nodes a and b say to each other late by d, from now on.
func (l *Links) Delay(a, b int, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late[pairOf(a, b)] = d
}

// Isolate keeps all that node i and the others say to each other, until Heal.
func (l *Links) Isolate(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for j := range 3 {
		if j != i {
			l.held[pairOf(i, j)] = true
		}
	}
}

// Heal ends the connections of which something was kept; new ones pass everything.
func (l *Links) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutAll(func(p pair) bool { return l.held[p] })
	clear(l.held)
	l.change.Broadcast()
}

func (l *Links) cutAll(which func(pair) bool) {
	for c, p := range l.conns {
		if which(p) {
			c.Close()
		}
	}
	l.change.Broadcast()
}

func (l *Links) accept(li net.Listener, p pair, to string) {
	for {
		c, err := li.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() {
			defer c.Close()
			s, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer s.Close()
			l.mu.Lock()
			l.conns[c], l.conns[s] = p, p
			if l.closed {
				c.Close()
			}
			l.mu.Unlock()
			var back sync.WaitGroup
			back.Go(func() { l.pass(p, s, c) })
			l.pass(p, c, s)
			back.Wait()
			l.mu.Lock()
			delete(l.conns, c)
			delete(l.conns, s)
			l.mu.Unlock()
		})
	}
}

type chunk struct {
	data []byte
	at   time.Time
}

// pass carries bytes one way until either end is closed.
func (l *Links) pass(p pair, from, to net.Conn) {
	chunks := make(chan chunk, 1<<14)
	l.running.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				chunks <- chunk{buf[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		l.mu.Lock()
		late := l.late[p]
		l.mu.Unlock()
		if d := time.Until(c.at.Add(late)); d > 0 {
			<-time.After(d) // the delay of the link itself
		}
		l.mu.Lock()
		for l.held[p] && !l.closed {
			l.change.Wait()
		}
		l.mu.Unlock()
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	from.Close()
	to.Close()
	for range chunks { // or the reader waits for room
	}
}
