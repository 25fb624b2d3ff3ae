package faults

import (
	"bufio"
	"encoding/json"
	"net"
	"strings"
	"sync"
)

// network is the wires between the nodes of a cluster on one machine: a proxy in
// front of each node's address for the other nodes. A wire that is cut is silent,
// as a cable that was pulled: nothing arrives, nothing is refused, and what was
// sent arrives when it is mended, if its connection lives on.
type network struct {
	mu      sync.Mutex // guards all below, and the wires' fields
	change  *sync.Cond
	cut     map[way]bool
	wires   map[*cable]struct{}
	proxies []net.Listener
	ended   bool
	running sync.WaitGroup
}

// way is a direction between two nodes, by name.
type way struct{ from, to string }

// cable is one connection: from the node that dialled to the one that listens.
type cable struct {
	dialler, listener string // names; dialler is "" until it has said it
	in, out           net.Conn
}

func newNetwork() *network {
	n := &network{cut: map[way]bool{}, wires: map[*cable]struct{}{}}
	n.change = sync.NewCond(&n.mu)
	return n
}

// front puts a proxy in front of a node, and gives its address.
func (n *network) front(name, target string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.proxies = append(n.proxies, l)
	n.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			n.running.Go(func() { n.carry(&cable{listener: name, in: in}, target) })
		}
	})
	return l.Addr().String(), nil
}

func (n *network) carry(w *cable, target string) {
	var err error
	if w.out, err = net.Dial("tcp", target); err != nil {
		_ = w.in.Close()
		return
	}
	n.mu.Lock()
	if n.ended {
		n.mu.Unlock()
		_, _ = w.in.Close(), w.out.Close()
		return
	}
	n.wires[w] = struct{}{}
	n.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { n.copy(w, w.out, w.in, true) })
	both.Go(func() { n.copy(w, w.in, w.out, false) })
	both.Wait()
	n.mu.Lock()
	delete(n.wires, w)
	n.mu.Unlock()
}

// copy carries one direction. The first line of a node that dials names it.
func (n *network) copy(w *cable, to, from net.Conn, outward bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	r := bufio.NewReaderSize(from, 64<<10)
	if outward {
		var said []byte
		for {
			line, err := r.ReadBytes('\n')
			said = append(said, line...)
			if body, ok := strings.CutPrefix(string(line), "CONNECT "); ok {
				var who struct {
					Name string `json:"name"`
				}
				_ = json.Unmarshal([]byte(body), &who) // a stranger has no name
				n.mu.Lock()
				w.dialler = who.Name
				n.mu.Unlock()
				break
			}
			if err != nil {
				return
			}
		}
		if !n.pass(w, outward) {
			return
		}
		if _, err := to.Write(said); err != nil {
			return
		}
	}
	buf := make([]byte, 64<<10)
	for {
		k, err := r.Read(buf)
		if k > 0 {
			if !n.pass(w, outward) {
				return
			}
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the direction is cut. It reports whether the network is still
// there.
func (n *network) pass(w *cable, outward bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for !n.ended {
		d := way{w.dialler, w.listener}
		if !outward {
			d = way{w.listener, w.dialler}
		}
		if w.dialler == "" || !n.cut[d] {
			return true
		}
		n.change.Wait()
	}
	return false
}

// sever cuts directions.
func (n *network) sever(ways ...way) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		n.cut[w] = true
	}
}

// mend makes all whole.
func (n *network) mend() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.change.Broadcast()
	return nil
}

func (n *network) end() {
	n.mu.Lock()
	n.ended = true
	for w := range n.wires {
		_, _ = w.in.Close(), w.out.Close()
	}
	n.change.Broadcast()
	n.mu.Unlock()
	for _, l := range n.proxies {
		_ = l.Close()
	}
	n.running.Wait()
}
